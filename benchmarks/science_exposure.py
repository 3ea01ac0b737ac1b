"""Figures of a CCD from its raw file to its calibrated one, of many at once, and of the memory that they take.

The CCDs are worked on as the tasks do, files read and written, without the Butler. They are exposures of one simulated
detector: the same work for each process.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from science_timing import cpu_seconds, figure, speed

from proc_decam_dagster.camera.geometry import RAW_SHAPE, TRIMMED_SHAPE

PAIRS = 5
CCDS = 62
"""CCDs of one exposure."""

_sample = None
_first = float("nan")
"""CPU seconds of this process's first CCD: it loads modules and the kernels that were compiled before."""


def _prepare(folder: str) -> None:
    """Load what a worker keeps: modules, compiled kernels, masters and reference catalogues."""
    global _first, _sample
    import warnings

    warnings.simplefilter("ignore")
    from science_sample import Sample

    from proc_decam_dagster.execution import heap

    heap.keep_freed()  # as a worker does
    _sample = Sample(Path(folder), lambda text: None)
    _first, _ = _calibrate(_sample.expnums("object")[0])


def _first_seconds() -> float:
    return _first


def _calibrate(expnum: int) -> tuple[float, float]:
    """Reduce one CCD, masters read from files too; return its CPU seconds and the peak memory of the process, GB."""
    from proc_decam_dagster.execution import heap
    from proc_decam_dagster.instrument.image_file import write_image

    start = cpu_seconds()
    image = _sample.detrend(_sample.raw(expnum))
    _sample.forget_masters()
    made = _sample.calibrate(image, expnum)
    with tempfile.TemporaryDirectory(prefix="decam-bench-") as folder:
        write_image(f"{folder}/calexp.fits", made.exposure)
        made.sources.write(f"{folder}/sources.parquet", format="parquet")
    del image, made
    heap.give_back()
    return cpu_seconds() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _ready() -> int:
    """Return the worker's number: it has been prepared."""
    time.sleep(0.5)
    return os.getpid()


def _pool(folder: Path, workers: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(workers, get_context("forkserver"), initializer=_prepare, initargs=(str(folder),))
    while len({future.result() for future in [pool.submit(_ready) for _ in range(workers)]}) < workers:
        pass
    return pool


def figures(
    folder: Path, numbers: list[int], bytes_per_second: float, say: Callable[[str], None], ccds: int = CCDS
) -> Iterator[dict[str, Any]]:
    """Yield the figures.

    Parameters
    ----------
    folder : `pathlib.Path`
        Of the sample.
    numbers : `list` [`int`]
        Its exposures.
    ccds : `int`
        CCDs of one exposure, 62. They are worked on in parts, each in one process and in one a core, in turns.
    """
    with _pool(folder, 1) as one:
        few = [future.result() for future in [one.submit(_calibrate, n) for n in numbers[:3]]]
        many = [future.result() for future in [one.submit(_calibrate, n) for n in numbers * 2]]
        seconds = float(np.median([cpu for cpu, _ in many]))
        # raw in; image, variance, mask of two masters in, of the frame out: as arrays, before they are compressed
        moved = 2.0 * RAW_SHAPE[0] * RAW_SHAPE[1] + 3 * 12.0 * TRIMMED_SHAPE[0] * TRIMMED_SHAPE[1]
        yield from speed("raw to calibrated CCD, I/O included", seconds, 3.0, moved, bytes_per_second)
        first = one.submit(_first_seconds).result()
        yield figure("first CCD of a new process, kernels compiled before: CPU beyond that", first - seconds, "s")
        yield figure("raw to calibrated CCD, peak memory", few[-1][1], "GB", 1.0)
        growth = many[-1][1] / few[-1][1]
        yield figure(f"peak memory after {len(many)} exposures over that after {len(few)}", growth, "", 1.05)
        cores = len(os.sched_getaffinity(0))
        say(f"an exposure of {ccds} CCDs on {cores} cores and on one, {PAIRS} parts in turns")
        work = np.array_split([numbers[k % len(numbers)] for k in range(ccds)], min(PAIRS, ccds))
        with _pool(folder, cores) as all_cores:
            efficiency, wall = [], 0.0
            for part in work:
                serial, parallel = (_wall(pool, part.tolist()) for pool in (one, all_cores))
                # the last CCD of an uneven number leaves cores idle, which is not a loss of efficiency
                rounds = -(-len(part) // cores) * cores / len(part)
                efficiency.append(serial * rounds / (cores * parallel))
                wall += parallel
        name = f"parallel efficiency of a {ccds}-CCD exposure on {cores} cores, median of {PAIRS} parts"
        yield figure(name, 100 * np.median(efficiency), "%", 85, at_least=True)
        yield figure("… smallest of the parts", 100 * min(efficiency), "%")
        yield figure(f"a {ccds}-CCD exposure on {cores} cores, wall", wall, "s")
        yield figure("load of the machine before it", os.getloadavg()[2])


def _wall(pool: ProcessPoolExecutor, work: list[int]) -> float:
    start = time.perf_counter()
    list(pool.map(_calibrate, work))
    return time.perf_counter() - start


def imports_seconds() -> float:
    """Return the CPU seconds that a new process needs to import all that calibrates a CCD."""
    import subprocess

    before = cpu_seconds(children=True) - cpu_seconds()
    modules = "proc_decam_dagster.tasks.isr, proc_decam_dagster.tasks.calibrate_image"
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
    return cpu_seconds(children=True) - cpu_seconds() - before
