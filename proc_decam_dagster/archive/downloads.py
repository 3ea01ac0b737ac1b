"""Raw files onto disk: several at once, each verified, and what became of each is told by name."""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from astropy.table import Table

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
from proc_decam_dagster.archive.ledger import Entry, Ledger
from proc_decam_dagster.archive.outcomes import DownloadReport, Duplicate, FileResult, Outcome
from proc_decam_dagster.archive.progress import Meter, Snapshot
from proc_decam_dagster.archive.state import ledger_of_state, state_file_of
from proc_decam_dagster.archive.transfer import FolderLock, SpaceGuard, md5_of, sync_folder
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.interrupts import deferred
from proc_decam_dagster.survey.exposures import FILE_NAME, file_name

MISMATCHES = 2
"""How often a file with a wrong md5 is fetched before the archive itself is asked about it."""
LOG_SECONDS = 20.0
TELL_SECONDS = 0.5
SILENT_FILES = 4
"""Files in a row for which the archive did not answer, each asked for several times, after which it counts as down."""
BAD, SPOILT = ".bad", ".spoilt"
"""Ends of the names of what came with another md5 (gone once the file has come right), and of what was on disk so."""
MAKE_IT = "make it with `proc-decam exposures`"
SIZE_COLUMNS = ("filesize", "file_size")
"""Columns in which a table may tell a file's bytes."""


@dataclass(frozen=True)
class Wanted:
    """A file that a table asks for."""

    md5: str
    name: str
    path: Path
    obs_type: str = ""
    size: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a download would do.

    Attributes
    ----------
    there, missing : `list` [`Wanted`]
        Files that are on disk and verified, and the others.
    bytes : `float`
        Bytes to fetch; of ``guessed`` files the size is not known and that of the others is taken.
    seconds : `float` or `None`
        From the rate of past downloads; `None` if there was none.
    free : `int`
        Bytes free on the disk.
    """

    there: list[Wanted]
    missing: list[Wanted]
    bytes: float
    guessed: int
    seconds: float | None
    rate: float | None
    free: int
    duplicates: list[Duplicate]


def wanted_files(exposures: Table, directory: Path) -> dict[str, Wanted]:
    """Return the files of an exposure table by md5, each once.

    Raises
    ------
    SurveyError
        If the table lacks a column.
    """
    missing = [c for c in ("md5sum", "archive_filename") if c not in exposures.colnames]
    if missing:
        raise SurveyError(f"the exposure table has no column {', '.join(missing)}", fix=MAKE_IT)
    rows = {c: exposures[c].tolist() for c in ("md5sum", "archive_filename", "obs_type") if c in exposures.colnames}
    size_column = next((c for c in SIZE_COLUMNS if c in exposures.colnames), None)
    sizes = exposures[size_column].tolist() if size_column else [None] * len(exposures)
    kinds = rows.get("obs_type", [""] * len(exposures))
    files: dict[str, Wanted] = {}
    for md5, archive_name, kind, size in zip(rows["md5sum"], rows["archive_filename"], kinds, sizes):
        name = file_name({"md5sum": md5, "archive_filename": archive_name})
        size = int(size) if isinstance(size, (int, float)) and size > 0 else None
        files.setdefault(
            str(md5), Wanted(str(md5), os.path.basename(str(archive_name)), directory / name, str(kind), size)
        )
    return files


def duplicates_in(exposures: Table) -> list[Duplicate]:
    """Return the rows of a table that are the same file, or the same exposure twice under different md5s."""

    def names(rows: Iterable[int]) -> tuple[str, ...]:
        return tuple(file_name(exposures[int(i)]) for i in rows)

    found = []
    md5s = np.asarray(exposures["md5sum"]).astype(str)
    for key, rows in _groups(md5s):
        found.append(Duplicate("content", key, names(rows)))
    if "EXPNUM" in exposures.colnames:
        # An exposure's raw and its instcal are two things.
        kinds = [np.asarray(exposures[c]).astype(str) for c in ("proc_type", "prod_type") if c in exposures.colnames]
        keys = np.asarray([" ".join(p) for p in zip(np.asarray(exposures["EXPNUM"]).astype(str), *kinds)])
        for _, rows in _groups(keys):
            if len(set(md5s[rows])) > 1:
                once = rows[np.unique(md5s[rows], return_index=True)[1]]
                found.append(Duplicate("exposure number", str(exposures["EXPNUM"][int(rows[0])]), names(once)))
    return found


def _groups(keys: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (key, rows) of the keys that occur more than once."""
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    return [(str(keys[rows[0]]), rows) for rows in np.split(order, starts[1:]) if len(rows) > 1]


def open_ledger(directory: Path, state_file: str | os.PathLike | None, *, read_only: bool = False) -> Ledger:
    """Return the ledger that keeps a state file's rows; by default the one in the folder of images."""
    state_file = Path(state_file) if state_file else state_file_of(directory / FILE_NAME)
    return Ledger(ledger_of_state(state_file), state_file, read_only=read_only)


def plan(exposures: Table, directory: str | os.PathLike, *, state_file: str | os.PathLike | None = None) -> Plan:
    """Return what a download would do, without asking the archive; takes what `download` takes."""
    directory = Path(directory).absolute()
    files = wanted_files(exposures, directory)
    with open_ledger(directory, state_file, read_only=True) as ledger:
        known, means, rate = ledger.entries(), ledger.mean_sizes(), ledger.past_rate()
    there = [f for f in files.values() if f.md5 in known and known[f.md5].unchanged()]
    missing = [f for f in files.values() if not (f.md5 in known and known[f.md5].unchanged())]
    expected, guessed = _expected_bytes(missing, known, means)
    existing = next(p for p in (directory, *directory.parents) if p.exists())
    return Plan(
        there, missing, expected, guessed, expected / rate if rate else None, rate, shutil.disk_usage(existing).free,
        duplicates_in(exposures),
    )  # fmt: skip


def _expected_bytes(files: Iterable[Wanted], known: dict[str, Entry], means: dict[str, float]) -> tuple[float, int]:
    """Return the bytes of files, and of how many of them the size is guessed."""
    expected, guessed = 0.0, 0
    for file in files:
        entry = known.get(file.md5)
        size = file.size or (entry.size if entry else None)
        guessed += size is None
        expected += size or means.get(file.obs_type) or means.get("") or 0.0
    return expected, guessed


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


def verify(
    exposures: Table,
    directory: str | os.PathLike,
    *,
    jobs: int = 4,
    state_file: str | os.PathLike | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> DownloadReport:
    """Read the files of a table that are on disk, all of them, and compare their md5; nothing is fetched.

    One that is spoilt is moved aside as ``.spoilt`` and entered as such, so that the next download fetches it. Takes
    what `download` takes; files that are not on disk have the outcome `Outcome.ABSENT`.
    """
    directory = Path(directory).absolute()
    files = wanted_files(exposures, directory)
    start = time.monotonic()
    with open_ledger(directory, state_file) as ledger:
        known = ledger.entries()
        ledger.want((f.md5, f.name, f.path, f.obs_type) for f in files.values())
        try:
            results = run_checks(
                ledger, {md5: partial(_verified, f, known.get(md5)) for md5, f in files.items()}, jobs, progress
            )
        finally:
            ledger.export_state()
        return DownloadReport(
            results, ledger.state_file, time.monotonic() - start, duplicates_in(exposures), ledger.path
        )


def run_checks(
    ledger: Ledger, checks: dict[str, Callable[[], FileResult]], jobs: int, progress: Callable | None
) -> list[FileResult]:
    """Run checks of files in threads (md5 leaves the interpreter free), and write each outcome as it comes."""
    results: dict[str, FileResult] = {}
    pool, ended = ThreadPoolExecutor(max(jobs, 1)), SimpleQueue()
    try:
        with deferred():
            keys = {_submit(pool, ended, check): key for key, check in checks.items()}
        while len(results) < len(checks):
            new = {keys[future]: future.result() for future in _next(ended)}
            ledger.record(new.values())
            for key, result in new.items():
                results[key] = result
                if progress:
                    progress(len(results), len(checks), f"{result.path.name}: {result.outcome}")
    finally:
        pool.shutdown(cancel_futures=True)
    return [results[key] for key in checks]


def _submit(pool: ThreadPoolExecutor, ended: SimpleQueue, task: Callable[[], FileResult]) -> Future:
    """Let a thread do a task; its future comes through the queue when it has ended."""
    future = pool.submit(task)
    future.add_done_callback(ended.put)
    return future


def _next(ended: SimpleQueue, timeout: float | None = None) -> list[Future]:
    """Return the tasks that have ended, after waiting for one of them; none if the time is over."""
    try:
        futures = [ended.get(timeout=timeout)]
        while not ended.empty():
            futures.append(ended.get_nowait())
    except Empty:
        return []
    return [future for future in futures if not future.cancelled()]


def _verified(file: Wanted, entry: Entry | None) -> FileResult:
    """Read one file, wherever it is."""
    for path in _places(file, entry):
        result = FileResult(path, file.md5)
        try:
            before = os.stat(path)
            found = md5_of(path)
            now = os.stat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            result.outcome, result.detail = Outcome.SPOILT, f"{path} cannot be read ({error.strerror or error})"
            return result
        if (before.st_mtime_ns, before.st_size) != (now.st_mtime_ns, now.st_size):
            result.outcome, result.detail = Outcome.ABSENT, f"{path} is being written; verify it again later"
            return result
        result.checked_disk = True
        if found == file.md5:
            result.outcome, result.bytes, result.mtime_ns = Outcome.VERIFIED, now.st_size, now.st_mtime_ns
        else:
            aside = set_aside(path)
            result.outcome = Outcome.SPOILT
            result.detail = f"{path} has md5 {found}; moved to {aside.name}; download it again"
        return result
    return FileResult(file.path, file.md5, Outcome.ABSENT)


def _places(file: Wanted, entry: Entry | None) -> list[Path]:
    """Return where a file may be: where this download would put it, and where an earlier one did."""
    return list(dict.fromkeys([file.path, *([Path(entry.path)] if entry and entry.path else [])]))


def set_aside(path: Path) -> Path:
    """Rename a file that is not what its name says; return its new name."""
    aside = path.with_name(path.name + SPOILT)
    os.replace(path, aside)
    return aside


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


class _Left:
    """The bytes that are still to come: known sizes, and the mean of its kind for each file of unknown size."""

    def __init__(self, files: list[Wanted], known: dict[str, Entry], means: dict[str, float]) -> None:
        self.means = means
        self.sizes = {f.md5: f.size or (known[f.md5].size if f.md5 in known else None) for f in files}
        self.kinds = {f.md5: f.obs_type for f in files if self.sizes[f.md5] is None}
        self.known, self.unknown = sum(s for s in self.sizes.values() if s), Counter(self.kinds.values())

    def take(self, md5: str) -> None:
        """A file is dealt with."""
        size = self.sizes.pop(md5, 0)
        if size is None:
            self.unknown[self.kinds[md5]] -= 1
        self.known -= size or 0

    def bytes(self, mean: float) -> float:
        """Return them; ``mean`` is that of the files that came so far."""
        means = self.means | ({"": mean} if mean else {})
        return self.known + sum(n * (means.get(kind) or means.get("") or 0.0) for kind, n in self.unknown.items())


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
        self.left = _Left(
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
                    _submit(pool, ended, partial(self.one, file))
            while len(results) < len(self.files):
                new = [future.result() for future in _next(ended, TELL_SECONDS)]
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
        for path in _places(file, entry):
            try:
                found = os.stat(path)
            except OSError:
                continue
            same = entry is not None and Path(entry.path) == path and entry.unchanged()
            if (same and not self.check_disk) or md5_of(path) == file.md5:
                result.path, result.outcome, result.checked_disk = path, Outcome.VERIFIED, True
                result.bytes, result.mtime_ns = found.st_size, found.st_mtime_ns
                return True
            if path == file.path:  # a file that did not verify must not stand under the name of one that did
                set_aside(path)
        return False

    def _fetch(self, file: Wanted, result: FileResult) -> None:
        md5, aside, seen = file.md5, file.path.with_name(file.path.name + BAD), []

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
                aside.unlink(missing_ok=True)  # of this run, or of one that was killed
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
