"""Downloads: every outcome by name, nothing half-written, nothing fetched twice."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from astropy.table import Table

from proc_decam_dagster.archive import download, downloaded_md5s, state_file_of
from proc_decam_dagster.archive.client import Archive
from proc_decam_dagster.archive.ledger import Ledger
from proc_decam_dagster.archive.outcomes import FileResult, Outcome
from proc_decam_dagster.archive.state import COLUMNS, read_state
from proc_decam_dagster.errors import SurveyError


def exposures_of(rows) -> Table:
    return Table(rows=[(r["md5sum"], r["archive_filename"]) for r in rows], names=("md5sum", "archive_filename"))


def test_files_arrive_verified_and_are_not_fetched_again(local, client, tmp_path):
    rows = [local.add(f"f{i}.fits.fz", os.urandom(50_000)) for i in range(5)]
    steps = []
    report = download(client, exposures_of(rows), tmp_path, progress=lambda *a: steps.append(a))
    assert report.ok and report.fetched == 5 and report.bytes == 250_000 and not report.failures
    assert [s[:2] for s in steps] == [(i, 5) for i in range(1, 6)]
    state = read_state(report.state_file)
    assert tuple(state.colnames) == COLUMNS and all(state["valid_on_disk"]) and all(state["did_download"])
    for row in rows:
        assert (tmp_path / f"{row['md5sum']}_{Path(row['archive_filename']).name}").read_bytes()
    again = download(client, exposures_of(rows), tmp_path)
    assert again.ok and again.fetched == 0 and set(local.served.values()) == {1}
    assert downloaded_md5s(tmp_path) == {r["md5sum"] for r in rows}


def test_a_file_without_a_state_is_verified_by_reading(local, client, tmp_path):
    good, bad = local.add("good.fits.fz", b"good"), local.add("bad.fits.fz", b"bad")
    (tmp_path / f"{good['md5sum']}_good.fits.fz").write_bytes(b"good")
    spoilt = tmp_path / f"{bad['md5sum']}_bad.fits.fz"
    spoilt.write_bytes(b"spoilt")
    report = download(client, exposures_of([good, bad]), tmp_path)
    assert report.ok and report.fetched == 1 and local.served[good["md5sum"]] == 0
    assert spoilt.read_bytes() == b"bad" and spoilt.with_name(spoilt.name + ".spoilt").read_bytes() == b"spoilt"
    # A file that is written to later is read again; one that rots unseen is found by reading it, and only then.
    spoilt.write_bytes(b"sad")
    assert download(client, exposures_of([bad]), tmp_path).fetched == 1
    times = spoilt.stat()
    spoilt.write_bytes(b"sad")
    os.utime(spoilt, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert download(client, exposures_of([bad]), tmp_path).fetched == 0
    assert download(client, exposures_of([bad]), tmp_path, check_disk=True).fetched == 1
    assert spoilt.read_bytes() == b"bad"


def test_each_outcome_has_its_name(local, client, tmp_path):
    fine = local.add("fine.fits.fz", b"fine")
    wrong = local.add("wrong.fits.fz", b"x", md5sum="0" * 32)
    invalid = local.add("invalid.fits.fz", b"y", md5sum="1" * 32)
    local.invalid.add("1" * 32)
    closed = local.add("closed.fits.fz", b"z")
    local.proprietary[closed["md5sum"]] = "2096-08-12"
    gone = {"md5sum": "2" * 32, "archive_filename": "gone.fits.fz"}
    cut = local.add("cut.fits.fz", b"c" * 50_000)
    local.truncated.add(cut["md5sum"])
    report = download(client, exposures_of([fine, wrong, invalid, closed, gone, cut]), tmp_path)
    outcomes = {r.md5sum: r.outcome for r in report.results}
    assert outcomes == {
        fine["md5sum"]: Outcome.VERIFIED, "0" * 32: Outcome.MD5_MISMATCH, "1" * 32: Outcome.ARCHIVE_INVALID,
        closed["md5sum"]: Outcome.PROPRIETARY, "2" * 32: Outcome.NOT_FOUND, cut["md5sum"]: Outcome.BROKE_OFF,
    }  # fmt: skip
    assert not report.ok and local.served["0" * 32] == 2
    assert any("proprietary until 2096-08-12" in why for _, why in report.failures)
    with pytest.raises(SurveyError, match="5 of 6 files are not on disk"):
        report.raise_on_failure()
    files = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")}
    assert files == {
        f"{fine['md5sum']}_fine.fits.fz", "downloaded_exposures.ecsv", "exposures.ledger.sqlite",
        f"{'0' * 32}_wrong.fits.fz.bad", f"{'1' * 32}_invalid.fits.fz.bad",
    }  # fmt: skip
    state = {r["md5sum"]: r for r in read_state(report.state_file)}
    assert not state["0" * 32]["valid_on_disk"] and state["0" * 32]["valid_in_archive"]
    assert state["0" * 32]["did_check_archive"] and not state["1" * 32]["valid_in_archive"]


def test_what_came_wrong_is_gone_once_the_file_is_right(local, client, tmp_path):
    """Also if the process that brought the file was killed between its renaming and all else."""
    rows = [local.add("a.fits.fz", b"a"), local.add("b.fits.fz", b"b")]
    paths = [tmp_path / f"{row['md5sum']}_{name}.fits.fz" for row, name in zip(rows, "ab")]
    for path in paths:
        path.with_name(path.name + ".bad").write_bytes(b"something else")
    paths[0].write_bytes(b"a")
    assert download(client, exposures_of(rows), tmp_path).counts == {Outcome.VERIFIED: 2}
    assert not list(tmp_path.glob("*.bad")) and local.served[rows[0]["md5sum"]] == 0


def test_passing_errors_are_no_failures(local, client, tmp_path):
    rows = [local.add("a.fits.fz", b"a")]
    local.failing["/api/retrieve"] = [500, 502]
    assert download(client, exposures_of(rows), tmp_path).ok


def test_a_full_disk_stops_the_download_before_it_writes(local, client, tmp_path, monkeypatch):
    rows = [local.add(f"f{i}.fits.fz", os.urandom(9_000)) for i in range(4)]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 5_000))
    report = download(client, exposures_of(rows), tmp_path, jobs=1)
    assert report.counts == {Outcome.DISK_FULL: 1, Outcome.NOT_TRIED: 3}
    assert "no disk space" in report.failures[0][1] and "free some" in report.failures[0][1]
    assert not [p for p in tmp_path.iterdir() if "fits" in p.name]


def test_a_disk_that_fills_up_while_writing(local, client, tmp_path, monkeypatch):
    import errno

    row = local.add("a.fits.fz", b"a" * 9_000)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    report = download(client, exposures_of([row]), tmp_path)
    assert report.counts == {Outcome.DISK_FULL: 1} and not list(tmp_path.glob("*fits*"))


def test_a_bad_account_fails_once_and_at_once(local, tmp_path):
    with pytest.raises(SurveyError, match="does not accept the account"):
        download(Archive(local.url, "me", "wrong"), exposures_of([local.add("a", b"a")]), tmp_path)


def test_a_table_without_its_columns_and_a_folder_that_cannot_be(local, client, tmp_path):
    with pytest.raises(SurveyError, match="no column archive_filename"):
        download(client, Table({"md5sum": ["a"]}), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SurveyError, match="cannot be made"):
        download(client, exposures_of([local.add("a", b"a")]), tmp_path / "file" / "images")


def test_resumes_after_it_was_killed(local, tmp_path):
    """Killed without warning in the middle of a file: what was complete is kept, the rest is fetched."""
    rows = [local.add(f"f{i}.fits.fz", os.urandom(20_000)) for i in range(3)]
    exposures_of(rows).write(tmp_path / "exposures.ecsv")
    # The last file hangs: its body is announced longer than what comes.
    slow = rows[2]["md5sum"]
    original = local.retrieve

    def retrieve(handler, md5):
        if md5 != slow:
            return original(handler, md5)
        handler.send_response(200)
        handler.send_header("Content-Length", "20000")
        handler.end_headers()
        handler.wfile.write(local.files[md5][:5000])
        handler.wfile.flush()
        time.sleep(20)

    local.retrieve = retrieve
    code = (
        "import sys; from astropy.table import Table; from proc_decam_dagster.archive import Archive, download;"
        f"download(Archive({local.url!r}), Table.read(sys.argv[1]), sys.argv[2], jobs=1)"
    )
    images = tmp_path / "images"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "exposures.ecsv"), str(images)])
    for _ in range(600):
        if len(list(images.glob("*.part"))) == 1 and len(list(images.glob("*.fz"))) == 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(images.glob("*.fz"))) == 2
    local.retrieve = original
    local.served.clear()
    report = download(Archive(local.url), exposures_of(rows), images)
    assert report.ok and report.fetched == 1 and dict(local.served) == {slow: 1}
    assert not list(images.glob("*.part"))


@pytest.mark.parametrize("silent", ["in the body", "before it answers"])
def test_an_interrupted_command_leaves_everything_consistent(local, tmp_path, silent):
    """Ctrl-C while one file hangs: it ends, in one line, no half file, the ledger and the table know what came."""
    rows = [local.add(f"f{i}.fits.fz", os.urandom(20_000)) for i in range(3)]
    table = exposures_of(rows)
    table["proc_type"] = "raw"
    table.write(tmp_path / "exposures.ecsv")
    slow, original = rows[2]["md5sum"], local.retrieve
    hangs, release = threading.Event(), threading.Event()

    def retrieve(handler, md5):
        if md5 != slow:
            return original(handler, md5)
        if silent == "in the body":
            handler.send_response(200)
            handler.send_header("Content-Length", "20000")
            handler.end_headers()
            handler.wfile.write(local.files[md5][:5000])
            handler.wfile.flush()
        hangs.set()
        release.wait()  # for ever: nothing but the interrupt ends this transfer

    local.retrieve = retrieve
    images = tmp_path / "images"
    words = ["download", str(tmp_path / "exposures.ecsv"), "--download-dir", str(images), "--archive-url", local.url]
    process = subprocess.Popen(
        [sys.executable, "-m", "proc_decam_dagster.cli.main", *words], stderr=subprocess.PIPE, text=True
    )
    try:
        assert hangs.wait(120)
        while len(list(images.glob("*.fz"))) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=120)[1]  # its own limit for a server that is silent is 180 s
    finally:
        release.set()
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted; what had finished is kept")
    assert not list(images.glob("*.part")) and len(list(images.glob("*.fz"))) == 2
    assert downloaded_md5s(images, tmp_path / "exposures.ecsv") == {r["md5sum"] for r in rows[:2]}
    assert set(read_state(tmp_path / "downloaded_exposures.ecsv")["md5sum"]) == {r["md5sum"] for r in rows[:2]}


def test_an_interrupt_at_any_moment_keeps_what_came(local, tmp_path):
    """Whenever it falls: what has its final name is in the ledger, and nothing else is; then all of it comes."""
    chance = random.Random(5)
    rows = [local.add(f"f{i}.fits.fz", os.urandom(30_000)) for i in range(12)]
    table, caught = exposures_of(rows), 0

    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for i in range(25):
            images = tmp_path / str(i)
            archive = Archive(local.url, "", "", retries=1, backoff=0.001)
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.12))
                download(archive, table, images, jobs=3)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                caught += 1
            assert not list(images.glob("*.part"))
            there = {p.name.partition("_")[0] for p in images.glob("*.fz")}
            assert downloaded_md5s(images) == there
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught
    report = download(Archive(local.url, "", ""), table, images)
    assert report.ok and report.fetched == len(rows) - len(there)


def test_two_downloads_keep_one_state(local, client, tmp_path):
    """As two nights' downloads do side by side: neither loses the other's rows."""
    first, second = Ledger(tmp_path / "s.ledger.sqlite"), Ledger(tmp_path / "s.ledger.sqlite")
    first.record([FileResult(tmp_path / "a", "a" * 32, Outcome.VERIFIED, checked_disk=True)])
    second.record([FileResult(tmp_path / "b", "b" * 32, Outcome.VERIFIED, checked_disk=True)])
    assert set(first.entries()) == {"a" * 32, "b" * 32}
    first.export_state()
    assert set(read_state(tmp_path / "downloaded_s.ecsv")["md5sum"]) == {"a" * 32, "b" * 32}


def test_the_reference_state_is_read(shared_data, local, client, tmp_path):
    """Its 20,329 rows: the 49 bad ones are tried again, a good one that exists where it says is not fetched."""
    state = read_state(shared_data / "archive" / "downloaded_exposures.ecsv")
    assert len(state) == 20329 and (~state["valid_on_disk"]).sum() == 49
    body = b"an old download"
    row = local.add("old.fits.fz", body)
    elsewhere = tmp_path / "elsewhere.fits.fz"
    elsewhere.write_bytes(body)
    state.add_row((str(elsewhere), row["md5sum"], True, True, True, False, True))
    state_file = state_file_of(tmp_path / "exposures.ecsv")
    state.write(state_file)
    bad = state[~state["valid_on_disk"]]["md5sum"][0]
    table = exposures_of([row, {"md5sum": bad, "archive_filename": "bad.fits.fz"}])
    report = download(client, table, tmp_path / "images", state_file=state_file)
    assert report.paths == [elsewhere] and local.served[row["md5sum"]] == 0
    assert report.counts == {Outcome.VERIFIED: 1, Outcome.NOT_FOUND: 1}
    assert len(read_state(state_file)) == 20330
    with pytest.raises(SurveyError, match="no column path"):
        Table({"md5sum": ["a"]}).write(state_file, overwrite=True)
        read_state(state_file)
