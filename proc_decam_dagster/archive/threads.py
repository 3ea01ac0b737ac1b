"""Several requests at once, and none of them left behind when one fails or the user interrupts."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from proc_decam_dagster.interrupts import deferred


def in_threads[Item, Result](
    task: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    *,
    told: Callable[[int, Result], None] | None = None,
    stop: Callable[[], None] | None = None,
) -> list[Result]:
    """Do a task with each item, and return what they gave in the items' order.

    Parameters
    ----------
    task : callable
        Given an item. The first error that one raises is raised here.
    items : iterable
    jobs : `int`
        How many at once.
    told : callable, optional
        Called in the calling thread with (tasks done, what the last one gave).
    stop : callable, optional
        Called when a task failed or the caller was interrupted: must end the tasks under way.
    """
    pool, results = ThreadPoolExecutor(max(jobs, 1)), []
    try:
        with deferred():  # a thread in whose start an interrupt falls may never end
            futures = [pool.submit(task, item) for item in items]
        for future in futures:
            results.append(future.result())
            if told:
                told(len(results), results[-1])
    except BaseException:
        if stop:
            stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return results
