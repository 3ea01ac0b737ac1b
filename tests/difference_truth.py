"""Differences compared with the truth, at full CCD size: the same measure for the test and for the benchmark."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.dia_sources import detect_dia_sources, score_image
from proc_decam_dagster.pixels.difference import subtract
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.simulation.rendering import draw_stars

BINS = ((5.0, 7.0, 0.75), (10.0, 10.0, 0.98), (20.0, 20.0, 0.995))
"""Signal-to-noise ratios injected, lowest and highest of a bin, and the completeness wanted."""
SPACING = 70
"""Pixels between injected sources."""
RADIUS = 3.0
"""Pixels within which a source is recovered."""
REACH = 12.0
"""Pixels around a bright star within which detections are its residuals."""


def scatter(values: np.ndarray) -> float:
    """Return the robust standard deviation of what is finite."""
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else float("nan")


def trusted(sources: Table) -> np.ndarray:
    """Return which DIA sources count, found or false alike: positive, no dipoles, reliability above one half."""
    return ~np.asarray(sources["negative"]) & ~np.asarray(sources["dipole"]) & (sources["reliability"] > 0.5)


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


@dataclass
class Tally:
    """What all differences of a run have shown; pulls by whether the exposure was ``sharper`` than the template.

    Attributes
    ----------
    injected, detected, recovered : `dict` [`float`, `int`]
        By the lowest signal-to-noise ratio of a bin: sources injected, found at all, and found and trusted.
    false : `list` [`int`]
        Trusted sources of each clean difference.
    ratios, errors : `list` [`numpy.ndarray`]
        Flux over injected flux in the brightest bin; pulls in all but the faintest.
    bright, dipoles : `list` [`tuple` [`int`, `int`]]
        Detections on bright stars, and on stars subtracted at the wrong place: all, and trusted ones.
    """

    injected: dict[float, int] = field(default_factory=dict)
    detected: dict[float, int] = field(default_factory=dict)
    recovered: dict[float, int] = field(default_factory=dict)
    false: list[int] = field(default_factory=list)
    pixel_pulls: dict[str, list[float]] = field(default_factory=dict)
    flux_pulls: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[np.ndarray] = field(default_factory=list)
    errors: list[np.ndarray] = field(default_factory=list)
    bright: list[tuple[int, int]] = field(default_factory=list)
    dipoles: list[tuple[int, int]] = field(default_factory=list)

    def completeness(self, start: float) -> float:
        """Return the fraction of a bin's sources that were found and are trusted."""
        return self.recovered[start] / max(self.injected[start], 1)

    def flux_bias(self) -> tuple[float, float]:
        """Return the median of the brightest bin's relative flux errors, and its standard error."""
        ratios = np.concatenate(self.ratios)
        ratios = ratios[np.isfinite(ratios)]
        return float(np.median(ratios) - 1), float(1.253 * scatter(ratios) / np.sqrt(len(ratios)))


def measure(
    exposure: MaskedImage, stars: tuple[np.ndarray, ...], bright: np.ndarray, true_psf: Any, template: MaskedImage,
    tally: Tally, seed: tuple[int, ...],
) -> None:  # fmt: skip
    """Subtract a template from a clean exposure and from one with injected sources, and add what they show.

    Parameters
    ----------
    exposure : `MaskedImage`
        Calibrated: electrons.
    stars : `tuple` of `numpy.ndarray`
        x, y and signal-to-noise ratio of the stars to match on.
    bright : `numpy.ndarray`, (n, 2)
        Pixel x, y of stars so bright that they leave residuals, saturated ones among them.
    true_psf : `proc_decam_dagster.simulation.optics.PsfField`
        That of the injected sources.
    template : `MaskedImage`
        On the exposure's pixels, nJy.
    tally : `Tally`
    seed : `tuple` [`int`, …]
    """
    rng = np.random.default_rng(seed)
    clean = subtract(exposure, template, *stars)
    good = ((exposure.mask | template.mask | clean.mask) & planes.UNUSABLE) == 0
    noise_scale = score_image(clean).noise_scale
    radius = int(np.ceil(2 * clean.metadata["difference_fwhm_px"]))
    side = "sharper" if clean.metadata["direction"] == "science" else "broader"
    pulls = (clean.image / np.sqrt(clean.variance))[good]
    tally.pixel_pulls.setdefault(side, []).append(scatter(pulls[::7]))
    x, y = rng.uniform(40, np.array(good.shape)[::-1] - 41, (40000, 2)).T
    fit = psf_fluxes(clean, x, y, radius=radius, min_usable=0.95)
    tally.flux_pulls.setdefault(side, []).append(scatter(fit.flux / (fit.flux_err * noise_scale)))
    false = detect_dia_sources(clean.copy())
    tally.false.append(int(trusted(false).sum()))
    tally.bright.append(_on_bright_stars(bright, false))

    x, y = grid_positions(rng, good.shape)
    error = psf_fluxes(clean, x, y, min_usable=0.9).flux_err * noise_scale
    cx, cy = (x + 0.5).astype(int), (y + 0.5).astype(int)
    clear = np.array([good[b - 3 : b + 4, a - 3 : a + 4].all() for a, b in zip(cx, cy)]) & np.isfinite(error)
    x, y, error = x[clear], y[clear], error[clear]
    tally.dipoles.append(_dipoles(clean, x[::9], y[::9], error[::9], rng))
    which = rng.integers(0, len(BINS), len(x))
    low, high = np.array([b[0] for b in BINS])[which], np.array([b[1] for b in BINS])[which]
    flux = flux_of_snr(rng.uniform(low, high), error, exposure.flux_scale)
    science = exposure.copy()
    light = np.zeros(science.shape, np.float32)
    draw_stars(light, x, y, flux / science.flux_scale, true_psf, edge=0.01)
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


def _on_bright_stars(bright: np.ndarray, found: Table) -> tuple[int, int]:
    """Count the detections on bright stars, and those that neither a flag nor the reliability gives away."""
    if not len(bright) or not len(found):
        return 0, 0
    on_star = cKDTree(bright).query(np.stack([found["x"], found["y"]], 1))[0] < REACH
    return int(on_star.sum()), int((on_star & trusted(found)).sum())


def _dipoles(clean: MaskedImage, x, y, error, rng: np.random.Generator) -> tuple[int, int]:
    """Put stars subtracted 0.3 to 1 pixel off into a difference; count their detections, and the trusted ones."""
    image = clean.copy()
    half = image.psf.size // 2
    for px, py, noise in zip(x, y, error):
        angle, off = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.0)
        # the lobes of a star of flux F, moved by d, are about 0.6 F d / FWHM: 8 to 40 times the noise
        flux = rng.uniform(8, 40) * noise * clean.metadata["difference_fwhm_px"] / (0.6 * off)
        for sign, ax, ay in ((1, px, py), (-1, px + off * np.cos(angle), py + off * np.sin(angle))):
            cx, cy = int(np.floor(ax + 0.5)), int(np.floor(ay + 0.5))
            box = np.s_[cy - half : cy + half + 1, cx - half : cx + half + 1]
            image.image[box] += (sign * flux * image.psf.stamp(ax, ay)).astype(np.float32)
    found = detect_dia_sources(image)
    on = cKDTree(np.stack([x, y], 1)).query(np.stack([found["x"], found["y"]], 1))[0] < 8
    return int(on.sum()), int((on & trusted(found)).sum())
