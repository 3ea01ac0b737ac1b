"""`run_nights`: many nights, some of them at once; one that fails never stops another."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil

from proc_decam_dagster.cores import default_cores
from proc_decam_dagster.errors import SurveyError, disk_full
from proc_decam_dagster.execution.memory import machine_memory_mb
from proc_decam_dagster.execution.night import run_night
from proc_decam_dagster.execution.pool import PoolStopped, WorkerPool
from proc_decam_dagster.execution.report import NightReport

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

log = logging.getLogger(__name__)

WORKER_GB = 1.5
"""Memory that a worker is reckoned with: a full CCD's measurement on top of what all tasks import."""
STOP_SECONDS = 5.0
"""How long an interrupt waits for nights to put their outputs in order; what they did not register yet is taken in by
the next run, as after any crash."""


def run_nights(
    repository: "Repository",
    nights: Iterable[str],
    proc_types: Sequence[str] = ("bias", "flat", "drp"),
    *,
    executions: int = 1,
    jobs: int | None = None,
    finished: Callable[[NightReport], None] | None = None,
    progress: Callable[[Any], None] | None = None,
    **options: Any,
) -> list[NightReport]:
    """Run proc types of many nights: within a night one after the other, several nights at once.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    nights, proc_types : `~collections.abc.Iterable` [`str`]
        What to run.
    executions : `int`, optional
        How many nights run at once (``-J``); each has ``jobs`` workers of its own: their product is the ceiling. It is
        lowered where the memory does not suffice, see `within_memory`.
    jobs : `int`, optional
        Workers of one execution; ``J`` of the environment by default.
    finished : `~collections.abc.Callable`, optional
        Called with the report of each night and proc type as it comes, by one thread at a time.
    progress : `~collections.abc.Callable`, optional
        Called with a `Progress` after every quantum; its step begins with the night.
    **options
        Passed on to `run_night`.

    Returns
    -------
    reports : `list` [`NightReport`]
        One a night and proc type, in the order asked for; `NightReport.error` tells what went wrong.

    Raises
    ------
    KeyboardInterrupt
        Within seconds of Ctrl-C, the workers of all nights stopped.
    """
    nights = list(nights)
    executions, jobs = within_memory(min(executions, len(nights)), jobs or default_cores())
    runs = _Nights(repository, proc_types, jobs, finished, progress, options)
    if executions <= 1:
        with runs.pool() as pool:
            for night in nights:
                runs.run(night, pool)
    else:
        runs.run_beside(nights, executions)
    return [report for night in nights for report in runs.reports[night]]


def within_memory(executions: int, jobs: int, available_gb: float | None = None) -> tuple[int, int]:
    """Return how many nights at once, of how many workers each, the free memory bears; at least one of one.

    What each quantum may take is shared out later, see `MemoryBudget`: this keeps the shares from getting too small.
    Nights are given up before workers: one night's are warm for all of its steps.
    """
    if available_gb is None:
        available_gb = min(psutil.virtual_memory().available / 2**20, machine_memory_mb()) / 2**10
    bears = max(1, int(available_gb / WORKER_GB))
    fitting = max(1, min(executions, bears // jobs)), min(jobs, bears)
    if fitting != (executions, jobs):
        log.warning(
            "%.0f GB of memory are free, enough for %d workers: %d nights of %d workers at once instead of %d of %d",
            available_gb, bears, *fitting, executions, jobs,
        )  # fmt: skip
    return fitting


class _Nights:
    """One call of `run_nights`: what its threads share."""

    def __init__(
        self, repository: "Repository", proc_types: Sequence[str], jobs: int,
        finished: Callable[[NightReport], None] | None, progress: Callable[[Any], None] | None, options: dict[str, Any],
    ) -> None:  # fmt: skip
        self.repository, self.proc_types, self.jobs, self.options = repository, proc_types, jobs, options
        self.finished, self.progress = finished, progress
        self.reports: dict[str, list[NightReport]] = {}
        self._telling = threading.Lock()
        self._pools: list[WorkerPool] = []
        self._stopping = threading.Event()

    def pool(self) -> WorkerPool:
        """Return workers for the nights that follow one another in a thread: they stay warm from night to night."""
        pool = WorkerPool(self.jobs)
        self._pools.append(pool)
        return pool

    def run(self, night: str, pool: WorkerPool) -> None:
        """Run the proc types of a night, whatever becomes of each."""
        options = dict(self.options)
        if self.progress:
            options["progress"] = lambda state: self.progress(replace(state, step=f"{night} {state.step}"))
        reports = self.reports[night] = []
        for proc_type in self.proc_types:
            if self._stopping.is_set():
                raise PoolStopped
            started = time.monotonic()
            try:
                report = run_night(self.repository, night, proc_type, pool=pool, **options)
            except SurveyError as error:
                report = NightReport(night, proc_type, error=str(error))
            except Exception as error:  # whatever it is, the other nights must not suffer from it
                full = disk_full(error)
                if full is None:
                    log.exception("night %s %s", night, proc_type)
                report = NightReport(night, proc_type, error=str(full or f"{type(error).__name__}: {error}"))
            report.seconds = report.seconds or time.monotonic() - started
            reports.append(report)
            if self.finished and not self._stopping.is_set():
                with self._telling:
                    self.finished(report)

    def run_beside(self, nights: Sequence[str], executions: int) -> None:
        """Run nights in threads; an interrupt, which reaches only the main thread, stops them all."""
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for night in nights:
            waiting.put(night)
        broken: list[BaseException] = []

        def work() -> None:
            try:
                with self.pool() as pool:
                    while not self._stopping.is_set():
                        self.run(waiting.get_nowait(), pool)
            except (queue.Empty, PoolStopped):
                return
            except BaseException as error:  # such as a broken pipe of the callback: told in the main thread
                broken.append(error)

        # Daemons: one that is in the middle of a long query must not keep an interrupted program from ending.
        threads = [threading.Thread(target=work, name=f"night-{n}", daemon=True) for n in range(executions)]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                threads[0].join(0.2) if threads[0].is_alive() else time.sleep(0.2)
        except BaseException:
            self._stop(threads)
            raise
        if broken:
            raise broken[0]

    def _stop(self, threads: Sequence[threading.Thread]) -> None:
        """Stop all nights; those that cannot stop at once are left to the end of the program."""
        self._stopping.set()
        for pool in list(self._pools):
            pool.stop()
        until = time.monotonic() + STOP_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
