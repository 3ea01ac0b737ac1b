"""The ledger: written through, read by several at once, in step with the reference's table, and fast."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from astropy.table import Table

from proc_decam_dagster.archive import downloaded_md5s, folders_of, known_files, ledger_file_of, state_file_of
from proc_decam_dagster.archive.ledger import Ledger
from proc_decam_dagster.archive.outcomes import FileResult, Outcome
from proc_decam_dagster.archive.state import read_state
from proc_decam_dagster.errors import SurveyError

A, B, C = "a" * 32, "b" * 32, "c" * 32


def on_disk(folder, md5, body=b"raw", outcome=Outcome.VERIFIED, **values) -> FileResult:
    """A file, and what the ledger is told of it."""
    path = folder / f"{md5}_x.fits.fz"
    path.write_bytes(body)
    found = path.stat()
    return FileResult(path, md5, outcome, bytes=found.st_size, mtime_ns=found.st_mtime_ns, checked_disk=True, **values)


def test_its_place_is_beside_the_table(tmp_path):
    assert ledger_file_of(tmp_path / "exposures.ecsv") == tmp_path / "exposures.ledger.sqlite"
    with Ledger(tmp_path / "exposures.ledger.sqlite") as ledger:
        assert ledger.state_file == state_file_of(tmp_path / "exposures.ecsv")


def test_what_is_written_is_read(tmp_path):
    with Ledger(tmp_path / "x.ledger.sqlite") as ledger:
        ledger.want([(A, "x.fits.fz", tmp_path / f"{A}_x.fits.fz", "zero"), (B, "y", tmp_path / "y", "object")])
        assert {e.outcome for e in ledger.entries().values()} == {"not tried"}
        assert ledger.past_rate() is None and ledger.mean_sizes() == {}
        ledger.record([FileResult(tmp_path / "y", B, Outcome.BROKE_OFF, "it broke", attempts=3, size=700)])
        ledger.record([FileResult(tmp_path / "y", B, Outcome.PROPRIETARY, "later", attempts=1, until="2096-08-12")])
        ledger.record([on_disk(tmp_path, A, fetched=True, attempts=1, size=3), FileResult(tmp_path / "y", B)])
    with Ledger(tmp_path / "x.ledger.sqlite") as ledger:
        entries = ledger.entries()
        assert entries[A].verified and entries[A].unchanged() and entries[A].name == "x.fits.fz" and entries[A].wanted
        late = entries[B]
        assert (late.outcome, late.attempts, late.last_error) == (Outcome.PROPRIETARY, 4, "later")
        assert late.until == "2096-08-12" and late.size == 700 and late.at.startswith("20") and not late.on_disk()
        assert ledger.mean_sizes() == {"zero": 3.0, "object": 700.0, "": 351.5}
        ledger.tell_run(ledger.start_run(4), 2.0, 1, 3000)
        ledger.start_run(4)  # one that was killed before anything came
        assert ledger.past_rate() == 1500.0


def test_a_half_written_file_is_not_there(tmp_path):
    with Ledger(tmp_path / "x.ledger.sqlite") as ledger:
        ledger.record([on_disk(tmp_path, A), on_disk(tmp_path, B), on_disk(tmp_path, C, outcome=Outcome.SPOILT)])
    assert downloaded_md5s(tmp_path) == {A, B}
    (tmp_path / f"{A}_x.fits.fz").write_bytes(b"r")
    (tmp_path / f"{'d' * 32}_y.fits.fz").write_bytes(b"some file that nobody verified")
    assert downloaded_md5s(tmp_path) == downloaded_md5s(tmp_path / "images") == {B}
    (tmp_path / f"{B}_x.fits.fz").unlink()
    assert downloaded_md5s(tmp_path) == set() and set(known_files(tmp_path)) == {A, B, C}


def test_the_references_table_comes_and_goes(tmp_path, shared_data):
    """The real one: 20,329 files, 49 of them bad though the archive calls them valid."""
    real = shared_data / "archive" / "downloaded_exposures.ecsv"
    state = state_file_of(tmp_path / "exposures.ecsv")
    state.write_bytes(real.read_bytes())
    with Ledger(ledger_file_of(tmp_path / "exposures.ecsv")) as ledger:
        entries = ledger.entries()
        bad = [e for e in entries.values() if not e.verified]
        assert len(entries) == 20329 and len(bad) == 49
        assert {(e.outcome, e.valid_in_archive) for e in bad} == {(Outcome.MD5_MISMATCH, True)}
        ledger.export_state()
    ours, theirs = read_state(state), read_state(real)
    ours.sort("md5sum")
    theirs.sort("md5sum")
    assert set(ours.colnames) == set(theirs.colnames)
    for name in theirs.colnames:
        assert ours[name].tolist() == theirs[name].tolist(), name
    assert folders_of(tmp_path / "exposures.ecsv") == {state.__class__("/data/epyc/projects/DEEP2/data/images")}


def test_what_others_write_into_the_table_is_taken_over_once(tmp_path):
    state = tmp_path / "downloaded_x.ecsv"
    with Ledger(tmp_path / "x.ledger.sqlite") as ledger:
        ledger.record([on_disk(tmp_path, A), FileResult(tmp_path / "b", B, Outcome.NOT_FOUND, "gone")])
        ledger.export_state()
        assert ledger.import_state(state) == 0
        table = read_state(state)
        table["valid_on_disk"], table["did_check_disk"] = (
            [False, True],
            [True, True],
        )  # they have B; what they think of A does not matter
        table.write(state, overwrite=True)
        assert ledger.import_state(state) == 1 and ledger.import_state(state) == 0
        assert {m: e.outcome for m, e in ledger.entries().items()} == {A: "verified", B: "verified"}
    # A path with a space survives.
    with Ledger(tmp_path / "y.ledger.sqlite") as ledger:
        ledger.record([FileResult(tmp_path / 'a "b" c', A, Outcome.VERIFIED, checked_disk=True)])
        assert Table.read(ledger.export_state())["path"].tolist() == [str(tmp_path / 'a "b" c')]


def test_a_reader_that_may_not_write(tmp_path):
    with Ledger(tmp_path / "x.ledger.sqlite") as ledger:
        ledger.record([on_disk(tmp_path, A)])
        state = ledger.export_state()
    with Ledger(tmp_path / "x.ledger.sqlite", read_only=True) as ledger:
        assert set(ledger.entries()) == {A}
        with pytest.raises(SurveyError, match="cannot be used"):
            ledger.record([on_disk(tmp_path, B)])
    with Ledger(tmp_path / "none.ledger.sqlite", state, read_only=True) as ledger:  # from the table alone, in memory
        assert set(ledger.entries()) == {A}
    assert not (tmp_path / "none.ledger.sqlite").exists()


def test_what_is_no_ledger_is_told_in_one_line(tmp_path):
    (tmp_path / "x.ledger.sqlite").write_bytes(b"no database at all, " * 100)
    with pytest.raises(SurveyError, match="is no ledger .*; move it away"):
        Ledger(tmp_path / "x.ledger.sqlite")
    sqlite3.connect(tmp_path / "y.ledger.sqlite").execute("PRAGMA user_version=99")
    with pytest.raises(SurveyError, match="newer version"):
        Ledger(tmp_path / "y.ledger.sqlite")


def test_nothing_that_was_written_is_lost_when_its_writer_is_killed(tmp_path):
    code = (
        "import sys, pathlib; from proc_decam_dagster.archive.ledger import Ledger;"
        "from proc_decam_dagster.archive.outcomes import FileResult, Outcome\n"
        "ledger = Ledger(sys.argv[1])\n"
        "for i in range(10**6):\n"
        "    ledger.record([FileResult(pathlib.Path(f'{i}'), f'{i:032d}', Outcome.VERIFIED)])\n"
        "    print(i, flush=True)"
    )
    path = tmp_path / "x.ledger.sqlite"
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().splitlines()
        process.wait()
        with Ledger(path) as ledger:
            assert {f"{int(i):032d}" for i in told if i} <= set(ledger.entries())


def test_several_processes_write_at_once(tmp_path):
    code = (
        "import sys, pathlib; from proc_decam_dagster.archive.ledger import Ledger;"
        "from proc_decam_dagster.archive.outcomes import FileResult, Outcome\n"
        "with Ledger(sys.argv[1]) as ledger:\n"
        "    for i in range(100):\n"
        "        name = f'{sys.argv[2]}{i:031d}'\n"
        "        ledger.record([FileResult(pathlib.Path(name), name, Outcome.VERIFIED)])\n"
        "    ledger.export_state()"
    )
    path = tmp_path / "x.ledger.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [w.wait() for w in writers] == [0, 0, 0]
    with Ledger(path) as ledger:
        assert len(ledger.entries()) == 300
        assert len(read_state(ledger.export_state())) == 300


def test_twenty_thousand_rows_go_in_and_out_of_a_small_file(tmp_path):
    """Every operation on a survey of that size; the benchmark times them."""
    results = [FileResult(tmp_path / f"{i}", f"{i:032d}", Outcome.VERIFIED, checked_disk=True) for i in range(20_000)]
    with Ledger(tmp_path / "x.ledger.sqlite") as ledger:
        for operation in (
            lambda: ledger.want((r.md5sum, "n", r.path, "zero") for r in results),
            lambda: ledger.record(results),
            lambda: ledger.entries(),
            lambda: ledger.export_state(),
            lambda: Ledger(tmp_path / "y.ledger.sqlite", ledger.state_file).close(),
        ):
            operation()
    assert os.path.getsize(tmp_path / "x.ledger.sqlite") < 10e6
