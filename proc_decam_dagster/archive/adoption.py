"""Files that came by other means (rsync, a colleague's disk): verified against the exposure table and entered."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from astropy.table import Table

from proc_decam_dagster.archive.checks import BAD, SPOILT, run_checks
from proc_decam_dagster.archive.ledger import Entry
from proc_decam_dagster.archive.outcomes import DownloadReport, Duplicate, FileResult, Outcome
from proc_decam_dagster.archive.transfer import LOCK_NAME, md5_of
from proc_decam_dagster.archive.wanted import Wanted, duplicates_in, open_ledger, wanted_files
from proc_decam_dagster.errors import SurveyError

IGNORED = (".part", BAD, SPOILT, ".ecsv", ".sqlite", ".sqlite-wal", ".sqlite-shm", LOCK_NAME)


def adopt(
    exposures: Table,
    directory: str | os.PathLike,
    *,
    jobs: int = 4,
    state_file: str | os.PathLike | None = None,
    check_disk: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> DownloadReport:
    """Verify the files in a folder, and enter those that an exposure table asks for into its ledger.

    Files are known by their md5, whatever their names; they stay where they are. A file that bears the name of an
    exposure and not its content is named and left alone: it is not ours to move.

    Parameters
    ----------
    exposures : `astropy.table.Table`
        Rows with md5sum and archive_filename.
    directory : `os.PathLike`
        Folder with files, at any depth.
    jobs : `int`
        Files read at once.
    state_file : `os.PathLike`, optional
        As for `downloads.download`.
    check_disk : `bool`
        Read also the files that the ledger knows and that have not changed since.
    progress : callable, optional
        Called with (files done, files in all, what).

    Returns
    -------
    report : `DownloadReport`
        One result a file that the table asks for; ``strangers`` are files that it does not know; ``duplicates`` also
        name files of the folder with the same content.
    """
    directory = Path(directory).absolute()
    if not directory.is_dir():
        raise SurveyError(f"{directory} is no folder", fix="give the one with the files")
    start = time.monotonic()
    files = wanted_files(exposures, directory)
    here = sorted(_files_below(directory))
    with open_ledger(directory, state_file) as ledger:
        known = {entry.path: entry for entry in ledger.entries().values()}
        by_name = {file.path.name: file for file in files.values()} | {file.name: file for file in files.values()}
        checks = {p: partial(_look, Path(p), known.get(p), check_disk) for p in here}
        ledger.want((f.md5, f.name, f.path, f.obs_type) for f in files.values())
        recorder = _Recorder(ledger, files)
        try:
            looked = run_checks(recorder, checks, jobs, progress and partial(_names_only, progress))
        finally:
            ledger.export_state()
        results = _judged(files, by_name, looked)
        found = {r.md5sum for r in looked}
        # What an earlier download put elsewhere counts as well.
        for entry in known.values():
            if entry.md5 in files and entry.md5 not in found and entry.unchanged():
                results[entry.md5] = FileResult(Path(entry.path), entry.md5, Outcome.VERIFIED, bytes=entry.bytes or 0)
        strangers = [r.path.name for r in looked if r.md5sum not in files and r.path.name not in by_name]
        return DownloadReport(
            [results[md5] for md5 in files], ledger.state_file, time.monotonic() - start,
            duplicates_in(exposures) + _same_content(looked), ledger.path, strangers,
        )  # fmt: skip


def _names_only(progress: Callable[[int, int, str], None], done: int, total: int, what: str) -> None:
    """Tell which file was read: whether the table asks for its content is judged when all are."""
    progress(done, total, what.rpartition(": ")[0])


class _Recorder:
    """Lets into the ledger what the table asks for, each file once."""

    def __init__(self, ledger, files: dict[str, Wanted]) -> None:
        self.ledger, self.files, self.entered = ledger, files, set()

    def record(self, results: list[FileResult]) -> None:
        new = [r for r in results if r.md5sum in self.files and r.md5sum not in self.entered]
        self.entered |= {r.md5sum for r in new}
        self.ledger.record(new)


def _files_below(directory: Path):
    for folder, _, names in os.walk(directory):
        yield from (os.path.join(folder, n) for n in names if not n.startswith(".") and not n.endswith(IGNORED))


def _look(path: Path, entry: Entry | None, check_disk: bool) -> FileResult:
    """Return which content a file has, read unless the ledger knows it."""
    if entry is not None and not check_disk and entry.unchanged() and entry.mtime_ns is not None:
        return FileResult(path, entry.md5, Outcome.VERIFIED, bytes=entry.bytes or 0, mtime_ns=entry.mtime_ns,
                          checked_disk=True)  # fmt: skip
    try:
        before = os.stat(path)
        md5 = md5_of(path)
        now = os.stat(path)
    except OSError as error:
        return FileResult(path, "", Outcome.SPOILT, f"{path} cannot be read ({error.strerror or error})")
    if (before.st_mtime_ns, before.st_size) != (now.st_mtime_ns, now.st_size):
        return FileResult(path, "", Outcome.SPOILT, f"{path} is being written; adopt it again later")
    return FileResult(path, md5, Outcome.VERIFIED, bytes=now.st_size, mtime_ns=now.st_mtime_ns, checked_disk=True)


def _judged(files: dict[str, Wanted], by_name: dict[str, Wanted], looked: list[FileResult]) -> dict[str, FileResult]:
    """Return one result a wanted file: verified, spoilt (its name with another content), or not there."""
    results = {md5: FileResult(file.path, md5, Outcome.ABSENT) for md5, file in files.items()}
    for result in looked:
        if result.md5sum in files and results[result.md5sum].outcome is not Outcome.VERIFIED:
            results[result.md5sum] = result
    for result in looked:
        named = by_name.get(result.path.name)
        if named is not None and result.md5sum != named.md5 and results[named.md5].outcome is Outcome.ABSENT:
            why = result.detail or f"{result.path} has md5 {result.md5sum}; it is left where it is"
            results[named.md5] = FileResult(result.path, named.md5, Outcome.SPOILT, why)
    return results


def _same_content(looked: list[FileResult]) -> list[Duplicate]:
    groups: dict[str, list[str]] = {}
    for result in looked:
        if result.md5sum:
            groups.setdefault(result.md5sum, []).append(str(result.path))
    return [Duplicate("content", md5, tuple(sorted(paths))) for md5, paths in sorted(groups.items()) if len(paths) > 1]
