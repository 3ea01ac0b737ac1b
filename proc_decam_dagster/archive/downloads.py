"""Raw files onto disk: several at once, each verified, and what became of each is told by name."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from astropy.table import Table

from proc_decam_dagster.archive.checks import bad_of, next_ended, places, set_aside, submit
from proc_decam_dagster.archive.client import Archive
from proc_decam_dagster.archive.errors import (
    ArchiveError,
    AuthFailed,
    Cancelled,
    ChecksumMismatch,
    DiskFull,
    NotFound,
    Proprietary,
    TransferFailed,
)
from proc_decam_dagster.archive.ledger import Ledger
from proc_decam_dagster.archive.outcomes import DownloadReport, FileResult, Outcome
from proc_decam_dagster.archive.planning import Left
from proc_decam_dagster.archive.progress import Meter, Snapshot
from proc_decam_dagster.archive.transfer import FolderLock, SpaceGuard, md5_of, sync_folder
from proc_decam_dagster.archive.wanted import Wanted, duplicates_in, open_ledger, wanted_files
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.interrupts import deferred

MISMATCHES = 2
"""How often a file with a wrong md5 is fetched before the archive itself is asked about it."""
LOG_SECONDS = 20.0
TELL_SECONDS = 0.5
SILENT_FILES = 4
"""Files in a row for which the archive did not answer, each asked for several times, after which it counts as down."""


def download(
    archive: Archive,
    exposures: Table,
    directory: str | os.PathLike,
    *,
    jobs: int = 4,
    state_file: str | os.PathLike | None = None,
    check_disk: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    watch: Callable[[Snapshot], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> DownloadReport:
    """Fetch the files of an exposure table; those that are there and verified are not fetched again.

    Parameters
    ----------
    archive : `Archive`
        Where from.
    exposures : `astropy.table.Table`
        Rows with md5sum and archive_filename.
    directory : `os.PathLike`
        Where to, as ``{md5}_{archive name}``.
    jobs : `int`
        Files at once; the archive documents no limit, so be modest.
    state_file : `os.PathLike`, optional
        The reference's table of what is known of each file: read at first, and written at the end. The ledger, which
        is written as the download goes, stands beside it. ``downloaded_exposures.ecsv`` in ``directory`` by default.
    check_disk : `bool`
        Read every file again and compare its md5, also when the ledger calls it verified.
    progress : callable, optional
        Called with (files done, files in all, what).
    watch : callable, optional
        Called about twice a second with a `Snapshot`.
    log : callable, optional
        Told a line for each file that could not be had, and every now and then how far it is.

    Raises
    ------
    SurveyError
        If the table lacks a column, the folder cannot be written, or the account is not accepted. What befell
        single files is told in the report, which the caller must look at.
    """
    directory = Path(directory).absolute()
    files = wanted_files(exposures, directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SurveyError(f"{directory} cannot be made ({error.strerror})", fix="give another --download-dir") from None
    archive.token()  # a bad account fails here, once, and not in every file
    start = time.monotonic()
    with open_ledger(directory, state_file) as ledger:
        ledger.want((f.md5, f.name, f.path, f.obs_type) for f in files.values())
        worker = _Worker(archive, ledger, directory, files, check_disk)
        try:
            results = worker.run(max(jobs, 1), progress or _told(log), watch)
        finally:
            worker.close()
            ledger.export_state()
        return DownloadReport(
            results, ledger.state_file, time.monotonic() - start, duplicates_in(exposures), ledger.path
        )


def _told(log: Callable[[str], None] | None) -> Callable[[int, int, str], None] | None:
    """Return a progress callback that writes lines, not more often than anybody would read."""
    if log is None:
        return None
    last = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last
        if done == total or not what.endswith(Outcome.VERIFIED) or time.monotonic() - last > LOG_SECONDS:
            last = time.monotonic()
            log(f"{done}/{total} files; {what}")

    return progress


class _Worker:
    """Fetches files in threads; the calling thread alone writes the ledger."""

    def __init__(
        self, archive: Archive, ledger: Ledger, directory: Path, files: dict[str, Wanted], check_disk: bool
    ) -> None:
        self.archive, self.ledger, self.directory, self.files = archive, ledger, directory, files
        self.check_disk = check_disk
        self.known = ledger.entries(files)
        self.space, self.lock = SpaceGuard(directory), FolderLock(directory)
        self.stop = threading.Event()
        self.finished: list[FileResult] = []
        self.full = threading.Event()
        self.silent = 0
        self.left = Left(
            [f for f in files.values() if not ((e := self.known.get(f.md5)) and e.unchanged())], self.known,
            ledger.mean_sizes(),
        )  # fmt: skip
        self.meter = Meter(len(files), self.left.bytes)

    def close(self) -> None:
        self.lock.close()

    def run(self, jobs: int, progress: Callable | None, watch: Callable | None) -> list[FileResult]:
        results: dict[str, FileResult] = {}
        run, start = self.ledger.start_run(jobs), time.monotonic()
        pool = ThreadPoolExecutor(jobs)
        ended: SimpleQueue = SimpleQueue()
        told = fetched = fetched_bytes = 0
        try:
            with deferred():  # a thread in whose start an interrupt falls may never end
                for file in self.files.values():
                    submit(pool, ended, partial(self.one, file))
            while len(results) < len(self.files):
                new = [future.result() for future in next_ended(ended, TELL_SECONDS)]
                self._record(new, results)
                for result in new:
                    self.left.take(result.md5sum)
                    self.meter.files += 1
                    good = result.fetched and result.outcome is Outcome.VERIFIED
                    fetched, fetched_bytes = fetched + good, fetched_bytes + result.bytes * good
                    self.silent = self.silent + 1 if result.outcome is Outcome.UNAVAILABLE else 0
                    if progress:
                        progress(self.meter.files, len(self.files), f"{result.path.name}: {result.outcome}")
                if time.monotonic() - told > TELL_SECONDS or len(results) == len(self.files):
                    told = time.monotonic()
                    if fetched:
                        self.ledger.tell_run(run, told - start, fetched, fetched_bytes)
                    if watch:
                        watch(self.meter.snapshot())
        except BaseException:  # also Ctrl-C, wherever it falls: end the threads soon, keep what is known
            self.stop.set()
            self.archive.stop()
            pool.shutdown(cancel_futures=True)
            with suppress(SurveyError):
                self._record([r for r in self.finished if r.md5sum not in results], results)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [results[md5] for md5 in self.files]

    def _record(self, new: list[FileResult], results: dict[str, FileResult]) -> None:
        """Enter what became of files into the ledger, then into ``results``."""
        if any(r.fetched for r in new):
            sync_folder(self.directory)  # the ledger must never know more than the disk
        if new:
            self.ledger.record(new)
            results.update((r.md5sum, r) for r in new)

    def one(self, file: Wanted) -> FileResult:
        """Bring one file to disk and say what became of it."""
        result = FileResult(file.path, file.md5)
        if self.stop.is_set() or self.full.is_set():
            result.detail = "the disk is full" if self.full.is_set() else "stopped"
            return result
        try:
            if not self._have(file, result):
                if self.silent >= SILENT_FILES:  # thousands of files would be waited for in vain
                    result.detail = "the archive does not answer"
                    return result
                with self.lock.hold(file.md5, self.stop.is_set):
                    # Another process may just have fetched it.
                    if not (file.path.is_file() and self._have(file, result)):
                        self._fetch(file, result)
        except Cancelled:
            result.outcome, result.detail = Outcome.NOT_TRIED, "stopped"
        except ArchiveError as error:
            result.outcome, result.detail = _outcome(error), str(error)
            result.until = getattr(error, "until", "")
            if isinstance(error, DiskFull):
                self.full.set()
        except OSError as error:
            result.outcome = Outcome.NOT_WRITTEN
            result.detail = f"{file.path} cannot be written ({error.strerror or error})"
        self.finished.append(result)
        return result

    def _have(self, file: Wanted, result: FileResult) -> bool:
        """Whether the file is on disk and verified: by the ledger, if it is as it was then; else by reading it."""
        entry = self.known.get(file.md5)
        for path in places(file, entry):
            try:
                found = os.stat(path)
            except OSError:
                continue
            same = entry is not None and Path(entry.path) == path and entry.unchanged()
            if (same and not self.check_disk) or md5_of(path) == file.md5:
                if path == file.path and not same:  # a process that was killed may have renamed it, and no more
                    bad_of(path).unlink(missing_ok=True)
                result.path, result.outcome, result.checked_disk = path, Outcome.VERIFIED, True
                result.bytes, result.mtime_ns = found.st_size, found.st_mtime_ns
                return True
            if path == file.path:  # a file that did not verify must not stand under the name of one that did
                set_aside(path)
        return False

    def _fetch(self, file: Wanted, result: FileResult) -> None:
        md5, aside, seen = file.md5, bad_of(file.path), []

        def begin() -> None:
            result.attempts += 1
            self.meter.start(md5, file.name)

        def sized(size: int | None) -> None:
            result.size = size
            self.meter.sized(md5, size)

        try:
            while True:
                try:
                    arrived = self.archive.retrieve(
                        md5, file.path, space=self.space, stop=self.stop, aside=aside, on_attempt=begin, on_size=sized,
                        on_bytes=partial(self.meter.came, md5),
                    )  # fmt: skip
                except ChecksumMismatch as error:
                    result.fetched = result.checked_disk = True
                    seen.append(error.found_md5)
                    if len(seen) < MISMATCHES:
                        continue
                    self._judge(file, result, seen, aside)
                result.fetched = result.checked_disk = True
                result.outcome, result.detail = Outcome.VERIFIED, ""
                result.bytes, result.mtime_ns = arrived.bytes, os.stat(file.path).st_mtime_ns
                aside.unlink(missing_ok=True)  # of this run, or of an earlier one
                return
        finally:
            self.meter.end(md5, result.bytes if result.outcome is Outcome.VERIFIED else 0)

    def _judge(self, file: Wanted, result: FileResult, seen: list[str], aside: Path) -> None:
        """Raise what a file is that came several times with another md5, after asking the archive about it."""
        try:
            result.valid_in_archive, result.checked_archive = self.archive.check(file.md5), True
            says = "calls its file valid" if result.valid_in_archive else "itself calls its file invalid"
        except Cancelled:
            raise
        except ArchiveError as error:
            says = f"does not say whether its file is valid ({error})"
        same = f"the same other md5 {seen[0]} each time" if len(set(seen)) == 1 else f"md5 {' and '.join(seen)}"
        told = f"{file.path.name} came {len(seen)} times with {same}, and the archive {says}; kept as {aside.name}"
        fix = "leave the exposure out, or tell the archive's helpdesk"
        if result.valid_in_archive:
            raise ChecksumMismatch(told, seen[-1], file.md5, fix) from None
        raise _ArchiveInvalid(told, fix=fix) from None


class _ArchiveInvalid(ArchiveError):
    """The archive calls its own file invalid."""


def _outcome(error: ArchiveError) -> Outcome:
    for kind, outcome in (
        (_ArchiveInvalid, Outcome.ARCHIVE_INVALID),
        (ChecksumMismatch, Outcome.MD5_MISMATCH),
        (Proprietary, Outcome.PROPRIETARY),
        (NotFound, Outcome.NOT_FOUND),
        (DiskFull, Outcome.DISK_FULL),
        (AuthFailed, Outcome.AUTH_FAILED),
        (TransferFailed, Outcome.BROKE_OFF),
    ):
        if isinstance(error, kind):
            return outcome
    return Outcome.UNAVAILABLE
