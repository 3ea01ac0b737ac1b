"""Figures of the difference on full CCDs at every seeing: CPU time, noise, completeness, false detections, fluxes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Table
from science_sample import Sample, Visit
from science_timing import binomial, cpu_of, figure, mad, speed, within
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.dia_sources import detect_dia_sources, score_image
from proc_decam_dagster.pixels.difference import subtract
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.injection import inject, magnitude_to_njy, measure_injected
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.simulation.rendering import draw_stars
from proc_decam_dagster.tasks.subtract import SPOILING_FLAGS

BINS = ((5.0, 7.0, 0.75), (10.0, 10.0, 0.98), (20.0, 20.0, 0.995))
"""Signal-to-noise ratios injected, lowest and highest of a bin, and the completeness wanted."""
SPACING = 70
"""Pixels between injected sources."""
RADIUS = 3.0
"""Pixels within which a source is recovered."""


def matching_stars(sources: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and signal-to-noise ratio of the sources that the subtraction may match on, as its task does."""
    spoilt = np.zeros(len(sources), bool)
    for name in SPOILING_FLAGS:
        if name in sources.colnames:
            spoilt |= np.asarray(sources[name], bool)
    return tuple(np.asarray(sources[name], float)[~spoilt] for name in ("x", "y", "snr"))


def trusted(sources: Table) -> np.ndarray:
    """Return which DIA sources count, found or false alike: positive, no dipoles, reliability above one half."""
    return ~np.asarray(sources["negative"]) & ~np.asarray(sources["dipole"]) & (sources["reliability"] > 0.5)


@dataclass
class Tally:
    """What all differences of the run have shown."""

    injected: dict[float, int] = field(default_factory=dict)
    detected: dict[float, int] = field(default_factory=dict)
    recovered: dict[float, int] = field(default_factory=dict)
    false: list[int] = field(default_factory=list)
    pixel_pulls: dict[str, list[float]] = field(default_factory=dict)
    flux_pulls: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[np.ndarray] = field(default_factory=list)
    errors: list[np.ndarray] = field(default_factory=list)
    bright: list[tuple[int, int]] = field(default_factory=list)


def grid_positions(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return positions spread over an image, about `SPACING` pixels apart, each anywhere within its pixel."""
    ny, nx = shape
    x, y = (g.ravel() for g in np.meshgrid(np.arange(40, nx - 40, SPACING), np.arange(40, ny - 40, SPACING)))
    return x + rng.uniform(-8, 8, x.size), y + rng.uniform(-8, 8, y.size)


def flux_of_snr(snr: np.ndarray, error: np.ndarray, unit: float) -> np.ndarray:
    """Return fluxes of a signal-to-noise ratio, from their errors without the source's own photons.

    ``unit`` is the flux of an electron. The photons' variance in the flux of an optimal fit is that of a Gaussian PSF.
    """
    own = 4 / 3 * unit * snr**2
    return 0.5 * (own + np.sqrt(own**2 + 4 * snr**2 * error**2))


def measure(visit: Visit, template: MaskedImage, tally: Tally, seed: int) -> None:
    """Subtract a clean exposure and one with injected sources, and add what they show to the tally."""
    rng = np.random.default_rng([seed, visit.truth.expnum])
    stars = matching_stars(visit.sources)
    clean = subtract(visit.exposure, template, *stars)
    good = ((visit.exposure.mask | template.mask | clean.mask) & planes.UNUSABLE) == 0
    noise_scale = score_image(clean).noise_scale
    side = "sharper" if clean.metadata["direction"] == "science" else "broader"
    pulls = (clean.image / np.sqrt(clean.variance))[good]
    tally.pixel_pulls.setdefault(side, []).append(mad(pulls[::7]))
    x, y = rng.uniform(40, np.array(good.shape)[::-1] - 41, (40000, 2)).T
    fit = psf_fluxes(clean, x, y, radius=int(np.ceil(2 * clean.metadata["difference_fwhm_px"])), min_usable=0.95)
    tally.flux_pulls.setdefault(side, []).append(mad(fit.flux / (fit.flux_err * noise_scale)))
    false = detect_dia_sources(clean)
    tally.false.append(int(trusted(false).sum()))
    _bright(visit, false, tally)

    x, y = grid_positions(rng, good.shape)
    error = psf_fluxes(clean, x, y, min_usable=0.9).flux_err * noise_scale
    cx, cy = (x + 0.5).astype(int), (y + 0.5).astype(int)
    clear = np.array([good[b - 3 : b + 4, a - 3 : a + 4].all() for a, b in zip(cx, cy)]) & np.isfinite(error)
    x, y, error = x[clear], y[clear], error[clear]
    which = rng.integers(0, len(BINS), len(x))
    low, high = np.array([b[0] for b in BINS])[which], np.array([b[1] for b in BINS])[which]
    flux = flux_of_snr(rng.uniform(low, high), error, visit.exposure.flux_scale)
    science = visit.exposure.copy()
    light = np.zeros(science.shape, np.float32)
    draw_stars(light, x, y, flux / science.flux_scale, visit.psf, edge=0.01)
    science.image += rng.poisson(light).astype(np.float32)
    science.variance += light
    difference = subtract(science, template, *stars)
    found = detect_dia_sources(difference)
    distance, nearest = cKDTree(np.stack([found["x"], found["y"]], 1)).query(np.stack([x, y], 1))
    near = (distance < RADIUS) & ~np.asarray(found["negative"])[nearest]
    kept = near & trusted(found)[nearest]
    for number, (start, _, _) in enumerate(BINS):
        inside = which == number
        for counts, selected in ((tally.injected, inside), (tally.detected, inside & near),
                                 (tally.recovered, inside & kept)):  # fmt: skip
            counts[start] = counts.get(start, 0) + int(selected.sum())
    # at the true place: at that of the detection's peak the flux would be that of the highest noise
    fixed = psf_fluxes(difference, x, y, radius=int(np.ceil(2 * difference.metadata["difference_fwhm_px"])))
    strong = which == len(BINS) - 1
    tally.ratios.append((fixed.flux / flux)[strong])
    tally.errors.append(((fixed.flux - flux) / (fixed.flux_err * noise_scale))[which > 0])


def _bright(visit: Visit, found: Table, tally: Tally) -> None:
    """Count the detections on bright stars and those of them that a flag or the reliability gives away."""
    snr = np.asarray(visit.sources["snr"], float)
    stars = np.stack([visit.sources["x"], visit.sources["y"]], 1)[snr > 1000]
    if not len(stars) or not len(found):
        tally.bright.append((0, 0))
        return
    on_star = cKDTree(stars).query(np.stack([found["x"], found["y"]], 1))[0] < 12
    tally.bright.append((int(on_star.sum()), int((on_star & trusted(found)).sum())))


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
        measure(visit, template, tally, seed=1)
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
    ratios = np.concatenate(tally.ratios)
    ratios = ratios[np.isfinite(ratios)]
    yield figure("flux bias at SNR 20", abs(np.median(ratios) - 1) * 100, "%", 1)
    yield figure("flux bias at SNR 20, standard error", 125.3 * mad(ratios) / np.sqrt(len(ratios)), "%")
    yield within("pull of injected fluxes at SNR 10 and 20", mad(np.concatenate(tally.errors)), 0.97, 1.03)
    found, passed = np.sum(tally.bright, axis=0)
    yield figure("detections on stars above SNR 1000, all differences", found)
    yield figure("… of them neither flagged nor of low reliability", passed)
