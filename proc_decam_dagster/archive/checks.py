"""Files on disk, read again: several at once, each outcome entered as it comes."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from astropy.table import Table

from proc_decam_dagster.archive.ledger import Entry, Ledger
from proc_decam_dagster.archive.outcomes import DownloadReport, FileResult, Outcome
from proc_decam_dagster.archive.transfer import md5_of
from proc_decam_dagster.archive.wanted import Wanted, duplicates_in, open_ledger, wanted_files
from proc_decam_dagster.interrupts import deferred

BAD, SPOILT = ".bad", ".spoilt"
"""Ends of the names of what came with another md5 (gone once the file has come right), and of what was on disk so."""


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
            keys = {submit(pool, ended, check): key for key, check in checks.items()}
        while len(results) < len(checks):
            new = {keys[future]: future.result() for future in next_ended(ended)}
            ledger.record(new.values())
            for key, result in new.items():
                results[key] = result
                if progress:
                    progress(len(results), len(checks), f"{result.path.name}: {result.outcome}")
    finally:
        pool.shutdown(cancel_futures=True)
    return [results[key] for key in checks]


def submit(pool: ThreadPoolExecutor, ended: SimpleQueue, task: Callable[[], FileResult]) -> Future:
    """Let a thread do a task; its future comes through the queue when it has ended."""
    future = pool.submit(task)
    future.add_done_callback(ended.put)
    return future


def next_ended(ended: SimpleQueue, timeout: float | None = None) -> list[Future]:
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
    for path in places(file, entry):
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


def places(file: Wanted, entry: Entry | None) -> list[Path]:
    """Return where a file may be: where this download would put it, and where an earlier one did."""
    return list(dict.fromkeys([file.path, *([Path(entry.path)] if entry and entry.path else [])]))


def set_aside(path: Path) -> Path:
    """Rename a file that is not what its name says; return its new name."""
    aside = path.with_name(path.name + SPOILT)
    os.replace(path, aside)
    return aside


def bad_of(path: Path) -> Path:
    """Return the name under which what came for a file with another md5 is kept."""
    return path.with_name(path.name + BAD)
