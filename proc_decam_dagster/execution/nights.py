"""`run_nights`: many nights, some of them at once; one that fails never stops another."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError, disk_full
from proc_decam_dagster.execution.night import run_night
from proc_decam_dagster.execution.pool import PoolStopped, WorkerPool
from proc_decam_dagster.execution.report import NightReport

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

log = logging.getLogger(__name__)


def run_nights(
    repository: "Repository",
    nights: Iterable[str],
    proc_types: Sequence[str] = ("bias", "flat", "drp"),
    *,
    executions: int = 1,
    jobs: int | None = None,
    finished: Callable[[NightReport], None] | None = None,
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
        How many nights run at once (``-J``); each has ``jobs`` workers of its own: their product is the ceiling.
    jobs : `int`, optional
        Workers of one execution; ``J`` of the environment by default.
    finished : `~collections.abc.Callable`, optional
        Called with the report of each night and proc type, in the thread that ran it.
    **options
        Passed on to `run_night`.

    Returns
    -------
    reports : `list` [`NightReport`]
        One a night and proc type, in the order asked for; `NightReport.error` tells what went wrong.
    """
    nights = list(nights)
    pools: list[WorkerPool] = []
    stopping = threading.Event()

    def run_one(night: str) -> list[NightReport]:
        reports = []
        if stopping.is_set():
            raise PoolStopped
        with WorkerPool(jobs) as pool:
            pools.append(pool)
            for proc_type in proc_types:
                try:
                    report = run_night(repository, night, proc_type, pool=pool, **options)
                except SurveyError as error:
                    report = NightReport(night, proc_type, error=str(error))
                except Exception as error:  # whatever it is, the other nights must not suffer from it
                    full = disk_full(error)
                    if full is None:
                        log.exception("night %s %s", night, proc_type)
                    report = NightReport(night, proc_type, error=str(full or f"{type(error).__name__}: {error}"))
                reports.append(report)
                if finished:
                    finished(report)
        return reports

    if executions <= 1 or len(nights) <= 1:
        return [report for night in nights for report in run_one(night)]
    with ThreadPoolExecutor(executions, thread_name_prefix="night") as threads:
        futures = [threads.submit(run_one, night) for night in nights]
        try:
            left = set(futures)
            while left:
                _, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
        except BaseException:  # Ctrl-C reaches this thread only
            stopping.set()
            for pool in pools:
                pool.stop()
            raise
    return [report for future in futures for report in future.result()]
