"""A driver's journal: what stands in it survives its driver, and whatever cuts a line."""

import os
import subprocess
import sys

import pytest

from proc_decam_dagster.execution.attempts import FAILED, INTERRUPTED, LOST, SUCCEEDED
from proc_decam_dagster.execution.journal import Journal, read_journal
from proc_decam_dagster.execution.ledger import Ledger

COMMON = {"chain": "20190401/bias", "run": "20190401/bias/bias/step1/T", "step": "step1", "backend": "local"}


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite", tmp_path / "attempts")


def test_what_has_ended_goes_to_the_ledger_and_the_journal_goes(ledger):
    journal = ledger.journal(**COMMON)
    first, second = journal.begin("isr", "{}", 100.0), journal.begin("isr", '{"detector": 1}')
    assert [left.driver["pid"] for left in ledger.running()] == [os.getpid()]
    assert [a.data_id for a in ledger.running()[0].under_way] == ["{}", '{"detector": 1}']
    journal.end(first, outcome=SUCCEEDED, seconds=2.0)
    journal.end(second, outcome=FAILED, exception="ValueError", message="m")
    assert ledger.take_in() == []  # its driver lives
    ledger.record(journal.take())
    ledger.record(journal.take())  # a connection may break after the commit
    journal.taken(journal.take())
    journal.close()
    one, two = ledger.attempts(COMMON["chain"])
    assert (one.outcome, one.seconds, one.memory_requested_mb, one.transient) == (SUCCEEDED, 2.0, 100.0, False)
    assert (two.outcome, two.exception, two.run, two.backend) == (FAILED, "ValueError", COMMON["run"], "local")
    assert not list(ledger.folder.iterdir())


def test_what_the_ledger_did_not_get_is_left_for_the_next_driver(ledger):
    journal = ledger.journal(**COMMON)
    journal.end(journal.begin("isr", "{}"), outcome=INTERRUPTED)
    journal.close()
    assert [a.outcome for a in ledger.take_in()] == [INTERRUPTED]
    assert [a.outcome for a in ledger.attempts(COMMON["chain"])] == [INTERRUPTED] and not ledger.take_in()


def test_what_a_killed_driver_had_begun_is_lost(ledger):
    program = (
        "import os, signal, sys; from pathlib import Path; from proc_decam_dagster.execution.journal import Journal\n"
        f"journal = Journal(Path(sys.argv[1]), **{COMMON})\n"
        "journal.end(journal.begin('isr', '{}'), outcome='succeeded'); journal.begin('isr', '1')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(ledger.folder)])
    done, lost = ledger.take_in()
    assert (done.outcome, lost.outcome, lost.exception, lost.transient) == (SUCCEEDED, LOST, "Lost", True)
    (failed,) = ledger.failures()
    assert failed.lost and failed.attempts == 1


def test_a_cut_line_spoils_no_other(ledger):
    journal = ledger.journal(**COMMON)
    key = journal.begin("isr", "{}")
    with open(journal.path, "ab") as file:
        file.write(b'\n{"begin": {"task": "is')
    journal.end(key, outcome=SUCCEEDED)
    left = read_journal(journal.path)
    assert [a.outcome for a in left.attempts] == [SUCCEEDED] and not left.under_way
    journal.close()


def test_without_room_for_a_line_nothing_is_begun(tmp_path):
    """/dev/full is a disk that is full."""
    journal = Journal(tmp_path, **COMMON)
    os.dup2(os.open("/dev/full", os.O_WRONLY), journal._file)
    with pytest.raises(OSError, match="No space left"):
        journal.begin("isr", "{}")
    assert journal.under_way == []
    journal.close()
