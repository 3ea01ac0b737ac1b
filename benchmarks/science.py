"""`make bench ONLY=science`: how fast and how good the embedded engine is on a simulated CCD, and its peers there.

The survey, its masters and calibrated exposures are made first (SCIENCE_DATA names a folder where they stay for the
next run); one core does the work unless a figure says otherwise.
"""

import gc
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

OTHERS = ("science_calibration", "science_stars")
"""Benchmarks of calibrations and of PSF, astrometry and photometry: each yields from ``figures(sample, say)``."""


def _say(text: str) -> None:
    print(f"science: {text}", file=sys.stderr, flush=True)


def bench_science(folder: Path, ccds: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield all figures; ``ccds`` is the number of CCDs of the exposure that is timed: 62, some minutes."""
    warnings.simplefilter("ignore")
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("error: CPU seconds of one core are measured: set OMP_NUM_THREADS=1, as `make bench` does")
    import science_coadd
    import science_difference
    import science_exposure
    import science_kernels
    from science_peers import HOTPANTS, peers_python
    from science_sample import Sample
    from science_timing import bandwidth, figure

    from proc_decam_dagster.execution import heap

    heap.keep_freed()  # as a worker does
    if kept := os.environ.get("SCIENCE_DATA"):
        folder = Path(kept)
    folder.mkdir(parents=True, exist_ok=True)
    yield figure("load of the machine", os.getloadavg()[0])
    speed = bandwidth()
    yield figure("memory bandwidth of one core, copy", speed / 1e9, "GB/s")
    yield figure("imports of the calibration tasks, CPU", science_exposure.imports_seconds(), "s")
    sample = Sample(folder, _say)
    python = peers_python(_say)
    with tempfile.TemporaryDirectory(prefix="decam-peers-", dir=folder) as exchange:
        yield from science_kernels.figures(sample, speed, python, Path(exchange), _say)
        made = science_coadd.make_coadd(sample)
        yield from science_coadd.figures(sample, made, speed, python, Path(exchange), _say)
    coadd = made[2]
    del made
    gc.collect()
    yield from science_difference.figures(sample, coadd, speed, _say)
    _say(HOTPANTS)
    for name in OTHERS:
        if importlib.util.find_spec(name):
            yield from importlib.import_module(name).figures(sample, _say)
    numbers = sample.expnums("object")
    yield from science_exposure.figures(folder, numbers, speed, _say, ccds or science_exposure.CCDS)
    yield figure("load of the machine at the end", float(np.round(os.getloadavg()[0], 2)))
