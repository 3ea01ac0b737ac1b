"""Files that came by other means, re-reading of what is there, duplicates, and what a download would do."""

import os
import shutil
from collections import namedtuple

import pytest
from astropy.table import Table

from proc_decam_dagster.archive import Ledger, Outcome, adopt, download, downloaded_md5s, plan, verify
from proc_decam_dagster.archive.wanted import duplicates_in
from proc_decam_dagster.errors import SurveyError


@pytest.fixture
def exposures(local) -> Table:
    """Four files of an archive."""
    rows = [local.add(f"f{i}.fits.fz", os.urandom(30_000), obs_type="zero" if i else "object") for i in range(4)]
    names = ("md5sum", "archive_filename", "EXPNUM", "obs_type")
    return Table(rows=[tuple(r[n] for n in names) for r in rows], names=names)


def paths_of(table, folder, pattern="{md5}_{name}"):
    return [
        folder / pattern.format(md5=row["md5sum"], name=row["archive_filename"].rpartition("/")[2]) for row in table
    ]


def test_a_folder_that_others_filled(local, client, exposures, tmp_path):
    """Some under our names, some under the archive's, at any depth: known by content, not fetched again."""
    theirs = tmp_path / "theirs"
    (theirs / "deep" / "er").mkdir(parents=True)
    ours, bare = paths_of(exposures, theirs), paths_of(exposures, theirs / "deep" / "er", "{name}")
    ours[0].write_bytes(local.files[exposures["md5sum"][0]])
    bare[1].write_bytes(local.files[exposures["md5sum"][1]])
    (theirs / "copy.fits.fz").write_bytes(bare[1].read_bytes())
    ours[2].write_bytes(b"half of it")
    (theirs / "readme.txt").write_text("hello")
    (theirs / f"{ours[3].name}.part").write_bytes(b"rsync is at it")
    report = adopt(exposures, theirs, state_file=tmp_path / "downloaded_exposures.ecsv")
    outcomes = [r.outcome for r in report.results]
    assert outcomes == [Outcome.VERIFIED, Outcome.VERIFIED, Outcome.SPOILT, Outcome.ABSENT]
    assert ours[2].read_bytes() == b"half of it" and "left where it is" in report.failures[0][1]
    assert report.strangers == ["readme.txt"] and report.ledger_file == tmp_path / "exposures.ledger.sqlite"
    (twice,) = report.duplicates
    assert twice.by == "content" and {os.path.basename(n) for n in twice.names} == {"copy.fits.fz", bare[1].name}
    assert downloaded_md5s(tmp_path / "images", tmp_path / "exposures.ecsv") == set(exposures["md5sum"][:2])
    fetched = download(client, exposures, tmp_path / "images", state_file=tmp_path / "downloaded_exposures.ecsv")
    assert fetched.ok and fetched.fetched == 2 and set(local.served) == set(exposures["md5sum"][2:])
    # Known and unchanged: not read again, unless asked for.
    again = adopt(exposures, theirs, state_file=tmp_path / "downloaded_exposures.ecsv")
    assert again.counts[Outcome.VERIFIED] == 4
    with pytest.raises(SurveyError, match="is no folder"):
        adopt(exposures, tmp_path / "nowhere")


def test_what_is_there_is_read_again(local, client, exposures, tmp_path):
    download(client, exposures, tmp_path)
    paths = paths_of(exposures, tmp_path)
    times = paths[0].stat()
    paths[0].write_bytes(bytes(30_000))
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))  # rot leaves no trace
    paths[1].unlink()
    report = verify(exposures, tmp_path)
    assert [r.outcome for r in report.results] == [Outcome.SPOILT, Outcome.ABSENT] + 2 * [Outcome.VERIFIED]
    assert not paths[0].exists() and paths[0].with_name(paths[0].name + ".spoilt").exists()
    assert downloaded_md5s(tmp_path) == set(exposures["md5sum"][2:])
    local.served.clear()
    assert download(client, exposures, tmp_path).ok and sum(local.served.values()) == 2


def test_a_dry_run_counts_before_and_after(local, client, exposures, tmp_path):
    first = plan(exposures, tmp_path / "images")
    assert len(first.missing) == 4 and first.guessed == 4 and first.bytes == 0 and first.seconds is None
    assert not local.served and not list(tmp_path.glob("images/*.fz"))
    download(client, exposures[:2], tmp_path / "images")
    then = plan(exposures, tmp_path / "images")
    assert (len(then.there), len(then.missing), then.guessed) == (2, 2, 2)
    assert then.bytes == 60_000 and then.seconds == pytest.approx(then.bytes / then.rate)
    exposures["filesize"] = [30_000, 30_000, 50_000, 50_000]
    known = plan(exposures, tmp_path / "images")
    assert known.bytes == 100_000 and known.guessed == 0


def test_duplicates_are_named(local, client, tmp_path):
    table = Table(
        {
            "md5sum": ["a" * 32, "b" * 32, "a" * 32, "c" * 32, "d" * 32],
            "archive_filename": ["one", "two", "three", "four", "five"],
            "EXPNUM": [1, 2, 1, 2, 1],
            "proc_type": ["raw", "raw", "raw", "raw", "instcal"],
        }
    )
    content, exposure = duplicates_in(table)
    assert (content.by, content.key, content.names) == ("content", "a" * 32, (f"{'a' * 32}_one", f"{'a' * 32}_three"))
    assert exposure.by == "exposure number" and exposure.key == "2" and len(exposure.names) == 2
    assert "the same exposure number 2: " in str(exposure)
    row = local.add("f.fits.fz", b"x")
    twice = Table(rows=[(row["md5sum"], "f.fits.fz"), (row["md5sum"], "g.fits.fz")], names=table.colnames[:2])
    report = download(client, twice, tmp_path)
    assert report.ok and len(report.results) == 1 and len(report.duplicates) == 1 and sum(local.served.values()) == 1


def test_the_space_is_checked_against_what_the_server_announces(local, client, exposures, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, (64 << 20) + 70_000))
    report = download(client, exposures, tmp_path, jobs=1)
    # Nothing pretends to use space here, so one file at a time fits; four at once do not.
    assert report.ok
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, (64 << 20) + 20_000))
    report = download(client, exposures, tmp_path / "x", jobs=4)
    assert report.counts[Outcome.DISK_FULL] >= 1 and not report.paths
    assert set(report.counts) <= {Outcome.DISK_FULL, Outcome.NOT_TRIED}
    assert not list((tmp_path / "x").glob("*.f*"))


def test_progress_is_told_by_file_and_in_all(local, client, exposures, tmp_path):
    seen = []
    download(client, exposures, tmp_path, jobs=2, watch=seen.append)
    last = seen[-1]
    assert (last.files, last.total, last.bytes, last.expected) == (4, 4, 120_000, 120_000) and not last.active
    with Ledger(tmp_path / "exposures.ledger.sqlite") as ledger:
        assert ledger.past_rate() > 0
