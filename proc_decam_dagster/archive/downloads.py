"""Raw files onto disk: several at once, each verified, and what became of each is told by name."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

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
)
from proc_decam_dagster.archive.state import DownloadState
from proc_decam_dagster.archive.transfer import SpaceGuard, md5_of
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.exposures import FILE_NAME, file_name

MISMATCHES = 2
"""How often a file with a wrong md5 is fetched before the archive itself is asked about it."""
SAVE_SECONDS = 20.0
MAKE_IT = "make it with `proc-decam exposures`"


class Outcome(StrEnum):
    """What became of one file."""

    VERIFIED = "verified"
    MD5_MISMATCH = "md5 mismatch"
    ARCHIVE_INVALID = "archive invalid"
    PROPRIETARY = "proprietary"
    NOT_FOUND = "not found"
    DISK_FULL = "disk full"
    AUTH_FAILED = "auth failed"
    UNAVAILABLE = "archive unavailable"
    NOT_TRIED = "not tried"


@dataclass
class FileResult:
    """One file: where it is or would be, what became of it and why.

    Attributes
    ----------
    fetched : `bool`
        Whether bytes came over the network in this run.
    checked_disk, checked_archive : `bool`
        Whether the md5 of the bytes, and the archive's own opinion, is known.
    valid_in_archive : `bool`
        That opinion; `True` until the archive said otherwise.
    """

    path: Path
    md5sum: str
    outcome: Outcome = Outcome.NOT_TRIED
    detail: str = ""
    fetched: bool = False
    bytes: int = 0
    checked_disk: bool = False
    checked_archive: bool = False
    valid_in_archive: bool = True


@dataclass
class DownloadReport:
    """What became of all files of a download."""

    results: list[FileResult]
    state_file: Path
    seconds: float = 0.0
    counts: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.counts = Counter(r.outcome for r in self.results)

    @property
    def ok(self) -> bool:
        """Whether every file is on disk and verified."""
        return self.counts[Outcome.VERIFIED] == len(self.results)

    @property
    def fetched(self) -> int:
        """Number of files that came over the network and verified."""
        return sum(r.fetched and r.outcome is Outcome.VERIFIED for r in self.results)

    @property
    def bytes(self) -> int:
        """Bytes of those."""
        return sum(r.bytes for r in self.results if r.outcome is Outcome.VERIFIED)

    @property
    def paths(self) -> list[Path]:
        """The files that are on disk and verified."""
        return [r.path for r in self.results if r.outcome is Outcome.VERIFIED]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Name of each file that is not on disk, and what became of it."""
        return [
            (r.path.name, f"{r.outcome}: {r.detail}" if r.detail else str(r.outcome))
            for r in self.results
            if r.outcome is not Outcome.VERIFIED
        ]

    def raise_on_failure(self) -> None:
        """Raise one `SurveyError` that counts what is missing by outcome; does nothing if nothing is."""
        if not self.ok:
            counts = ", ".join(f"{n} {o}" for o, n in self.counts.items() if o is not Outcome.VERIFIED)
            first = "; ".join(": ".join(f) for f in self.failures[:1])
            raise SurveyError(
                f"{len(self.failures)} of {len(self.results)} files are not on disk ({counts}; the first: {first})",
                fix="run the download again: what is verified is not fetched again",
            )


def download(
    archive: Archive,
    exposures: Table,
    directory: str | os.PathLike,
    *,
    jobs: int = 4,
    state_file: str | os.PathLike | None = None,
    check_disk: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
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
        The table of what is known of each file, read, and written as the download goes;
        ``downloaded_exposures.ecsv`` in ``directory`` by default.
    check_disk : `bool`
        Read every file again and compare its md5, also when the state calls it verified.
    progress : callable, optional
        Called with (files done, files in all, what).
    log : callable, optional
        Told a line for each file that could not be had, and every now and then how far it is.

    Raises
    ------
    SurveyError
        If the table lacks a column, the folder cannot be written, or the account is not accepted. What befell
        single files is told in the report, which the caller must look at.
    """
    missing = [c for c in ("md5sum", "archive_filename") if c not in exposures.colnames]
    if missing:
        raise SurveyError(f"the exposure table has no column {', '.join(missing)}", fix=MAKE_IT)
    directory = Path(directory).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SurveyError(f"{directory} cannot be made ({error.strerror})", fix="give another --download-dir") from None
    archive.token()  # a bad account fails here, once, and not in every file
    state = DownloadState(state_file or directory / f"downloaded_{FILE_NAME}")
    wanted = {str(row["md5sum"]): directory / file_name(row) for row in exposures}
    worker = _Worker(archive, state, SpaceGuard(directory), check_disk)
    start = time.monotonic()
    results = worker.run(wanted, jobs, progress or _told(log))
    return DownloadReport(results, state.path, time.monotonic() - start)


def _told(log: Callable[[str], None] | None) -> Callable[[int, int, str], None] | None:
    """Return a progress callback that writes lines, not more often than anybody would read."""
    if log is None:
        return None
    last = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last
        if done == total or not what.endswith(Outcome.VERIFIED) or time.monotonic() - last > SAVE_SECONDS:
            last = time.monotonic()
            log(f"{done}/{total} files; {what}")

    return progress


class _Worker:
    """Fetches files in threads; the calling thread alone writes the state."""

    def __init__(self, archive: Archive, state: DownloadState, space: SpaceGuard, check_disk: bool) -> None:
        self.archive, self.state, self.space, self.check_disk = archive, state, space, check_disk
        self.stop = threading.Event()
        self.full = threading.Event()

    def run(self, wanted: dict[str, Path], jobs: int, progress) -> list[FileResult]:
        results: dict[str, FileResult] = {}
        saved = time.monotonic()
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            futures = {pool.submit(self.one, md5, path) for md5, path in wanted.items()}
            try:
                while futures:
                    done, futures = wait(futures, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in done:
                        result = future.result()
                        results[result.md5sum] = result
                        self.state.record(result)
                        if progress:
                            progress(len(results), len(wanted), f"{result.path.name}: {result.outcome}")
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self.state.save()
                        saved = time.monotonic()
            except BaseException:  # also Ctrl-C: end the threads soon, keep what is known
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self.state.save()
        return [results[md5] for md5 in wanted]

    def one(self, md5: str, path: Path) -> FileResult:
        """Bring one file to disk and say what became of it."""
        result = FileResult(path, md5)
        if self.stop.is_set() or self.full.is_set():
            result.detail = "the disk is full" if self.full.is_set() else "stopped"
            return result
        try:
            if not self._have(result):
                self._fetch(result)
                result.outcome, result.detail = Outcome.VERIFIED, ""
        except Cancelled:
            result.detail = "stopped"
        except ArchiveError as error:
            result.outcome, result.detail = _outcome(error), str(error)
            if isinstance(error, DiskFull):
                self.full.set()
        except OSError as error:
            result.outcome, result.detail = Outcome.UNAVAILABLE, f"{path} cannot be written ({error})"
        return result

    def _have(self, result: FileResult) -> bool:
        """Whether the file is on disk and verified: by the state, else by reading it."""
        for path in dict.fromkeys((result.path, self.state.path_of(result.md5sum, result.path))):
            if not path.is_file():
                continue
            known = self.state.verified(result.md5sum, path)
            if (known and not self.check_disk) or md5_of(path) == result.md5sum:
                result.path, result.outcome, result.checked_disk = path, Outcome.VERIFIED, True
                return True
            if path == result.path:  # a file that did not verify must not stand under the name of one that did
                os.replace(path, path.with_name(path.name + ".bad"))
        return False

    def _fetch(self, result: FileResult) -> None:
        for attempt in range(MISMATCHES):
            try:
                arrived = self.archive.retrieve(result.md5sum, result.path, space=self.space, stop=self.stop)
            except ChecksumMismatch as error:
                result.fetched = result.checked_disk = True
                if attempt + 1 < MISMATCHES:
                    continue
                result.valid_in_archive, result.checked_archive = self.archive.check(result.md5sum), True
                if result.valid_in_archive:
                    raise
                raise _ArchiveInvalid(
                    f"{result.path.name} has md5 {error.found_md5}, and the archive itself calls its file invalid",
                    fix="leave the exposure out, or tell the archive's helpdesk",
                ) from None
            else:
                result.fetched = result.checked_disk = True
                result.bytes = arrived.bytes
                return


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
    ):
        if isinstance(error, kind):
            return outcome
    return Outcome.UNAVAILABLE
