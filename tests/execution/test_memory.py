"""The machine's memory is shared out, in turn, and never more of it than there is."""

from proc_decam_dagster.execution.attempts import FailedQuantum
from proc_decam_dagster.execution.memory import MemoryBudget, machine_memory_mb
from proc_decam_dagster.execution.retries import LOSSES, memory_requests, tries_left


def test_shares_fit_and_a_large_one_gets_its_turn():
    budget = MemoryBudget(100.0)
    with budget.workers(400):
        assert budget.share_mb == 0.25
    assert budget.reserve("a", 50, "A") and budget.reserve("b", 50, "B")
    assert not budget.reserve("large", 80, "A")
    budget.release("b")
    assert not budget.reserve("small", 10, "B")  # A is first in line
    budget.release("a")
    assert budget.reserve("large", 80, "A") and budget.reserve("small", 10, "B")


def test_alone_a_quantum_may_ask_for_more_than_there_is():
    budget = MemoryBudget(100.0)
    assert budget.reserve("huge", 500, "A") and not budget.reserve("b", 1, "B")
    budget.leave("B")
    budget.release("huge")
    assert budget.reserve("c", 1, "C")


def test_the_machine_has_memory():
    assert 100 < machine_memory_mb() < 1e9


def failed(exception="MemoryError", attempts=1, losses=0, memory=1000.0, transient=True):
    return FailedQuantum("isr", {"detector": 1}, exception, "m", transient, attempts, losses, memory)


def test_requests_are_doubled_up_to_a_limit_for_memory_only():
    before = {
        "memory": failed(), "killed": failed("Lost"), "much": failed(memory=9000.0), "disk": failed("OSError"),
        "driver": failed("Lost", 1, 1), "nobody said": failed(memory=0.0),
    }  # fmt: skip
    assert memory_requests(before, 16000.0) == {"memory": 2000.0, "killed": 2000.0, "much": 16000.0}


def test_tries():
    assert tries_left(failed(attempts=2), 2) and not tries_left(failed(attempts=3), 2)
    assert not tries_left(failed(transient=False), 2)
    assert tries_left(failed(attempts=6, losses=5), 2) and not tries_left(failed(attempts=11, losses=LOSSES + 1), 2)
