"""File locks: exclusive between processes and threads, freed by death, re-entrant, telling who holds them."""

import os
import subprocess
import sys
import threading

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.locks import file_lock, holder, is_locked

HOLD = """
import sys
from pathlib import Path
from proc_decam_dagster.locks import file_lock
with file_lock(Path(sys.argv[1]), "20190401/bias"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "locks" / "chain.lock"


def test_another_process_is_refused_and_told_who_holds_it(path):
    assert not is_locked(path) and not path.exists()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        refused = pytest.raises(SurveyError, match=f"20190401/bias is being worked on by process {other.pid} on")
        with refused, file_lock(path, "20190401/bias"):
            pass
        assert is_locked(path)
        other.kill()
        other.wait()
        assert not is_locked(path)
        with file_lock(path, "20190401/bias"):  # its death has freed it
            assert f"process {os.getpid()} " in holder(path)


def test_another_thread_is_refused(path):
    errors = []

    def other():
        try:
            with file_lock(path, "chain"):
                pass
        except SurveyError as error:
            errors.append(error)

    with file_lock(path, "chain"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_waits_for_the_other_and_says_so(path):
    said, entered = [], threading.Event()
    release = threading.Event()

    def other():
        with file_lock(path, "chain"):
            entered.set()
            release.wait(20)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(20)

    def told(message):
        said.append(message)
        release.set()

    with file_lock(path, "chain", wait_seconds=20, on_wait=told):
        pass
    thread.join()
    assert len(said) == 1
    assert "waiting for chain" in said[0]


def test_the_holder_may_take_it_again_and_frees_it_once(path):
    with file_lock(path, "chain"):
        with file_lock(path, "chain"):
            pass
        with pytest.raises(SurveyError):
            _in_thread(path)
    _in_thread(path)


def test_freed_after_an_error(path):
    with pytest.raises(ZeroDivisionError), file_lock(path, "chain"):
        raise ZeroDivisionError
    _in_thread(path)


def _in_thread(path):
    """Take the lock in another thread; raise what that raises."""
    raised = []

    def take():
        try:
            with file_lock(path, "chain"):
                pass
        except SurveyError as error:
            raised.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
