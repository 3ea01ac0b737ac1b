"""Figures of the difference on full CCDs at every seeing: CPU time, noise, completeness, false detections, fluxes."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from science_sample import Sample, Visit
from science_timing import binomial, cpu_of, figure, speed, within
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from difference_truth import BINS, Tally, measure, scatter

from proc_decam_dagster.pixels.dia_sources import detect_dia_sources
from proc_decam_dagster.pixels.difference import subtract
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.injection import inject, magnitude_to_njy, measure_injected
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.tasks.subtract import SPOILING_FLAGS

BRIGHT = 1000.0
"""Signal-to-noise ratio of the stars whose residuals are counted."""


def matching_stars(sources: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and signal-to-noise ratio of the sources that the subtraction may match on, as its task does."""
    spoilt = np.zeros(len(sources), bool)
    for name in SPOILING_FLAGS:
        if name in sources.colnames:
            spoilt |= np.asarray(sources[name], bool)
    return tuple(np.asarray(sources[name], float)[~spoilt] for name in ("x", "y", "snr"))


def figures(sample: Sample, coadd: MaskedImage, bytes_per_second: float, say: Callable[[str], None],
            count: int | None = None) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield the figures of ``count`` differences, by default all.

    Parameters
    ----------
    sample : `Sample`
    coadd : `MaskedImage`
        The template on its patch.
    bytes_per_second : `float`
        The memory's bandwidth.
    say : callable
    count : `int`, optional
    """
    tally = Tally()
    for number, expnum in enumerate(sample.expnums("object", "science")[:count]):
        visit = sample.visit(expnum)
        template = warp([coadd], visit.exposure.wcs, visit.exposure.shape, repair=False)
        if number == 0:
            yield from _speed(visit, coadd, template, bytes_per_second)
            yield from _fakes(visit)
        bright = visit.sources[np.asarray(visit.sources["snr"]) > BRIGHT]
        bright = np.stack([bright["x"], bright["y"]], 1)
        measure(visit.exposure, matching_stars(visit.sources), bright, visit.psf, template, tally, (1, expnum))
        say(f"difference {number + 1}: {tally.false[-1]} false")
    yield from _quality(tally)


def _speed(visit: Visit, coadd: MaskedImage, template: MaskedImage, bytes_per_second: float) -> Iterator[dict]:
    stars = matching_stars(visit.sources)
    warped_in, _ = cpu_of(lambda: warp([coadd], visit.exposure.wcs, visit.exposure.shape, repair=False))
    subtracted_in, difference = cpu_of(lambda: subtract(visit.exposure, template, *stars))
    found_in, _ = cpu_of(lambda: detect_dia_sources(difference))
    # coadd and exposure in, difference out: image, variance and mask
    moved = 12.0 * (coadd.image.size + 2 * difference.image.size)
    total = warped_in + subtracted_in + found_in
    yield from speed("difference of a CCD (template, subtraction, DIA sources)", total, 2.0, moved, bytes_per_second)
    for name, seconds in (("template", warped_in), ("subtraction", subtracted_in), ("DIA sources", found_in)):
        yield figure(f"difference: {name}, CPU", seconds, "s")


def _fakes(visit: Visit, count: int = 1500) -> Iterator[dict[str, Any]]:
    """Yield the flux bias of fakes put on the sky and measured as the engine does, above SNR 20."""
    rng = np.random.default_rng(7)
    ny, nx = visit.exposure.shape
    ra, dec = visit.exposure.wcs.all_pix2world(rng.uniform(30, nx - 31, count), rng.uniform(30, ny - 31, count), 0)
    magnitude = rng.uniform(-1, 1, count) + visit.exposure.metadata["depth_5sigma_mag"] - 2.5
    made = inject(visit.exposure, ra, dec, magnitude, (1, visit.truth.expnum))
    # those on the light of other sources are theirs too
    apart = cKDTree(np.stack([visit.sources["x"], visit.sources["y"]], 1)).query(np.stack([made.x, made.y], 1))[0] > 25
    kept = apart & (made.usable > 0.99)
    flux = magnitude_to_njy(magnitude[made.index])
    catalogue = Table({"fake_id": np.arange(len(flux)), "x": made.x, "y": made.y, "flux": flux})[kept]
    ratio = np.asarray(measure_injected(made.exposure, catalogue)["fake_ratio"])
    ratio = ratio[np.isfinite(ratio)]
    yield figure(f"fakes: flux bias, median of {len(ratio)}", 100 * abs(np.median(ratio) - 1), "%", 1.0)
    yield figure("fakes: recovered", len(ratio) / max(len(catalogue), 1))


def _quality(tally: Tally) -> Iterator[dict[str, Any]]:
    for start, _, wanted in BINS:
        count, found = tally.injected[start], tally.recovered[start]
        name = "5 to 7" if start == 5 else f"{start:g}"
        low, high = binomial(found, count)
        row = figure(f"completeness at SNR {name}", found / max(count, 1), "", wanted, at_least=True)
        yield row | {"figure": f"{row['figure']} ({found} of {count}, 95 %: {low:.4f} to {high:.4f})"}
        yield figure(f"completeness at SNR {name}, before flags and reliability", tally.detected[start] / max(count, 1))
        yield figure(f"injections at SNR {name}", count, "", 1000, at_least=True)
    yield figure(f"false a CCD, mean of {len(tally.false)} differences", np.mean(tally.false), "", 5)
    yield figure("false a CCD, worst", max(tally.false))
    for side in ("sharper", "broader"):
        if side in tally.pixel_pulls:
            name = f"science {side} than template, {len(tally.pixel_pulls[side])} differences"
            for what, pulls in (("pixel pull", tally.pixel_pulls[side]), ("PSF-flux pull", tally.flux_pulls[side])):
                yield within(f"{what}, smallest, {name}", min(pulls), 0.97, 1.03)
                yield within(f"{what}, largest, {name}", max(pulls), 0.97, 1.03)
    bias, error = tally.flux_bias()
    yield figure("flux bias at SNR 20", 100 * abs(bias), "%", 1)
    yield figure("flux bias at SNR 20, standard error", 100 * error, "%")
    yield within("pull of injected fluxes at SNR 10 and 20", scatter(np.concatenate(tally.errors)), 0.97, 1.03)
    found, passed = np.sum(tally.bright, axis=0)
    yield figure(f"detections on stars above SNR {BRIGHT:g}, all differences", found)
    yield figure("… a CCD of them neither flagged nor of low reliability", passed / len(tally.bright), "", 1)
    found, passed = np.sum(tally.dipoles, axis=0)
    yield figure(f"dipoles (stars 0.3 to 1 pixel off) flagged or of low reliability, of {found} detections",
                 100 * (1 - passed / max(found, 1)), "%", 99, at_least=True)  # fmt: skip
