"""What is transient, and what is advised."""

import pytest

from proc_decam_dagster.execution.failures import LOST, TIME_LIMIT, action, is_transient, wants_memory


def mro(error):
    return [c.__name__ for c in type(error).__mro__]


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (MemoryError(), True),
        (OSError(5, "Input/output error"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (BlockingIOError(), True),
        (FileNotFoundError(), False),
        (FileExistsError(), False),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("no stars"), False),
        (ValueError(), False),
    ],
)
def test_transient(error, transient):
    assert is_transient(mro(error), str(error)) is transient


def test_lost_worker_is_transient_and_a_time_limit_is_not():
    assert is_transient((LOST,)) and wants_memory((LOST,))
    assert not is_transient((TIME_LIMIT,))


def test_only_memory_wants_the_machine_alone():
    assert wants_memory(mro(MemoryError())) and wants_memory((), "Unable to allocate 64 MiB")
    assert not wants_memory(mro(OSError()))


def test_advice_is_a_command():
    parts = {"root": "./repo", "chain": "20190401/bias", "step": "step1", "pipeline": "bias.yaml"}
    parts["data_id"] = {"detector": 3}
    command = action("ValueError", False, **parts)
    assert "proc-decam execute ./repo 20190401/bias --pipeline bias.yaml#step1" in command
    assert command.endswith(" --retry-failed")
    assert '--where "detector=3"' in command
    assert "J=1" in action("MemoryError", True, **parts)
    assert "--time-limit" in action(TIME_LIMIT, False, **parts)
    assert action("OSError", True, **parts, tries_left=True).startswith("proc-decam execute")
