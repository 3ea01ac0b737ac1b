"""DIA sources: detection in a difference image by its matched filter, measurement, and what speaks against each."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy.table import Table
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.apertures import aperture_fluxes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.measurement import FLAG_PLANES
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA
from proc_decam_dagster.pixels.tiles import Tiles

OPPOSITE_THRESHOLD = 4.0
"""Significance of an opposite lobe that makes a dipole."""
DIPOLE_RATIO = 0.3
"""… and its strength relative to the stronger lobe."""
FLAG_COLUMNS = {name.removeprefix("flag_"): bits for name, bits in FLAG_PLANES.items()}
"""Boolean columns, each set where one of its mask bits lies within a pixel of the centre."""


@dataclass(frozen=True)
class Score:
    """Significance of a point source at every pixel.

    Attributes
    ----------
    score : `numpy.ndarray`, (ny, nx), float32
        Matched-filter signal-to-noise ratio, of unit scatter on blank sky; 0 where too little of the PSF is on good
        pixels.
    noise_scale : `float`
        Scatter of the score on blank sky before it was normalised: by as much do PSF flux errors exceed what the
        pixels' variances say, because neighbouring pixels' noise is not quite independent.
    """

    score: np.ndarray
    noise_scale: float


def score_image(difference: MaskedImage, min_usable: float = 0.5) -> Score:
    """Return the significance of a point source at every pixel of a difference image.

    Parameters
    ----------
    difference : `MaskedImage`
        With its PSF.
    min_usable : `float`
        Least fraction of the filter's weight on good pixels.
    """
    good = ~planes.unusable(difference.image, difference.variance, difference.mask)
    if not good.any():
        return Score(np.zeros(difference.shape, np.float32), 1.0)
    thinned = difference.variance.ravel()[::11][good.ravel()[::11]]
    norm = np.float32(np.median(thinned if len(thinned) else difference.variance[good]))
    weight, data = (np.empty(difference.shape, np.float32) for _ in range(2))
    _weigh(difference.image, difference.variance, good, norm, weight, data)
    coverage = good.astype(np.float32)
    numerator, information, seen = (np.empty(difference.shape, np.float32) for _ in range(3))
    tiles = Tiles(difference.shape, difference.psf.size // 2)

    @cache
    def filters(x: float, y: float) -> tuple[np.ndarray, np.ndarray, float]:
        psf = difference.psf.kernel(x, y)[::-1, ::-1]
        return tiles.kernel_spectrum(psf), tiles.kernel_spectrum(psf**2), (psf**2).sum()

    for tile in tiles:
        first, second, area = filters(*tiles.block(tile))
        numerator[tile.slices] = tiles.crop(tiles.spectrum(data, tile) * first, tile)
        information[tile.slices] = tiles.crop(tiles.spectrum(weight, tile) * second, tile)
        if good[tile.slices].all() and tile.x0 and tile.y0 and tile.x1 < good.shape[1] and tile.y1 < good.shape[0]:
            seen[tile.slices] = 1
        else:
            seen[tile.slices] = tiles.crop(tiles.spectrum(coverage, tile) * second, tile) / area
    score, usable = np.empty(good.shape, np.float32), np.empty(good.shape, np.bool_)
    _significance(numerator, information, seen, good, np.float32(min_usable), norm, score, usable)
    scale = _blank_scatter(score, usable, difference.psf.size // 2)
    score /= np.float32(scale)
    return Score(score, scale)


@jit
def _weigh(image, variance, good, norm, weight, data):
    """Write the weight of every pixel, the inverse of its variance in units of ``norm``, and its value times that."""
    zero = np.float32(0)
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            weight[j, i] = norm / variance[j, i] if good[j, i] else zero
            data[j, i] = image[j, i] * weight[j, i] if good[j, i] else zero


@jit
def _significance(numerator, information, seen, good, least, norm, score, usable):
    """Write the score, and where enough was seen for one; 0 elsewhere."""
    zero = np.float32(0)
    for j in range(score.shape[0]):
        for i in range(score.shape[1]):
            usable[j, i] = (seen[j, i] > least) & (information[j, i] > zero) & good[j, i]
            score[j, i] = numerator[j, i] / np.sqrt(information[j, i] * norm) if usable[j, i] else zero


def _blank_scatter(score: np.ndarray, usable: np.ndarray, reach: int, step: int = 3) -> float:
    """Return the robust scatter of a score image where nothing is detected within ``reach`` pixels; 1 if unknown.

    The wings of many sources would widen even a robust scatter: by 4 % where a fifth of the image lies in them.
    """
    thinned = score[::step, ::step]
    near = maximum_filter(np.abs(thinned) > OPPOSITE_THRESHOLD, 2 * (reach // step) + 1)
    for chosen in (usable[::step, ::step] & ~near, usable[::step, ::step]):
        sample = thinned[chosen]
        if len(sample) > 0.2 * thinned.size:
            break
    scale = float(1.4826 * np.median(np.abs(sample - np.median(sample)))) if len(sample) > 100 else 1.0
    return scale if scale > 0 else 1.0


def pixel_scatter(difference: MaskedImage, x: np.ndarray, y: np.ndarray, cell: int = 64) -> np.ndarray:
    """Return the robust scatter of the pixels around positions in units of their errors, at least 1.

    A difference is whitened for the noise that its template has in most places. Where the template has fewer inputs,
    single pixels scatter more than their variances say, though fluxes, which see low frequencies, do not.
    """
    ny, nx = difference.shape
    ny, nx = -(-ny // cell), -(-nx // cell)
    half = cell // 2
    pulls = np.full((ny * half, nx * half), np.nan, np.float32)
    image, variance, mask = (a[::2, ::2] for a in (difference.image, difference.variance, difference.mask))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where((mask & planes.UNUSABLE) == 0, image / np.sqrt(variance), np.nan)
    pulls[: values.shape[0], : values.shape[1]] = values
    thinned = np.abs(pulls).reshape(ny, half, nx, half).swapaxes(1, 2).reshape(ny, nx, -1)
    thinned.sort(axis=-1)
    count = np.isfinite(thinned).sum(-1)
    median = np.take_along_axis(thinned, np.maximum(count // 2, 0)[..., None], -1)[..., 0]
    scatter = np.where(count >= 50, np.maximum(1.4826 * median, 1), 1.0)
    return scatter[(y / cell).astype(int).clip(0, ny - 1), (x / cell).astype(int).clip(0, nx - 1)]


@jit
def _peaks(score, threshold, reach, x, y):
    """Write the positions of local maxima above a threshold; return how many (at most the arrays' length)."""
    ny, nx = score.shape
    count = 0
    for j in range(2, ny - 2):
        for i in range(2, nx - 2):
            value = score[j, i]
            if value <= threshold:
                continue
            highest = True
            for b in range(max(j - reach, 0), min(j + reach + 1, ny)):
                for a in range(max(i - reach, 0), min(i + reach + 1, nx)):
                    # the first of equal neighbours wins
                    if score[b, a] > value or (score[b, a] == value and (b < j or (b == j and a < i))):
                        highest = False
                        break
                if not highest:
                    break
            if highest and count < x.size:
                x[count] = i
                y[count] = j
                count += 1
    return count


def find_peaks(score: np.ndarray, threshold: float, reach: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns and rows of the local maxima above a threshold, within ``reach`` pixels.

    The outermost two pixels are left out: a peak there has no shape.
    """
    x, y = np.empty(100_000, np.int64), np.empty(100_000, np.int64)
    count = _peaks(score, np.float32(threshold), reach, x, y)
    return x[:count].copy(), y[:count].copy()


def _sub_pixel(score: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return peak positions to a fraction of a pixel: parabolas through the logarithm of three pixels on each axis."""

    def offset(before: np.ndarray, at: np.ndarray, after: np.ndarray) -> np.ndarray:
        floor = 1e-3 * np.abs(at)
        low, mid, high = (np.log(np.maximum(v, floor)) for v in (before, at, after))
        curvature = 2 * mid - low - high
        return np.clip(np.where(curvature > 0, (high - low) / np.where(curvature > 0, 2 * curvature, 1), 0), -0.7, 0.7)

    middle = score[y, x]
    dx = offset(score[y, x - 1], middle, score[y, x + 1])
    dy = offset(score[y - 1, x], middle, score[y + 1, x])
    return x + dx, y + dy


def detect_dia_sources(difference: MaskedImage, threshold: float = 5.0) -> Table:
    """Detect and measure the sources of a difference image.

    Parameters
    ----------
    difference : `MaskedImage`
        In nJy, with PSF. Its mask gets DETECTED and DETECTED_NEGATIVE.
    threshold : `float`
        Significance of a detection.

    Returns
    -------
    sources : `astropy.table.Table`
        One row each, brightest first: ``x, y, x_err, y_err`` (pixels), ``snr`` (negative for negative sources),
        ``flux, flux_err`` (PSF, nJy), ``ap_flux, ap_flux_err`` (radius in the metadata), ``chi2, core_chi2`` (of the
        PSF's fit, within 1 and 0.6 FWHM, over the pixels' local scatter), ``sharpness`` (peak relative to the PSF's),
        ``ixx, iyy, ixy`` (pixels²), ``variance_ratio`` (local to sky), ``usable`` (fraction of the PSF on good pixels),
        ``negative``, ``dipole``,
        `FLAG_COLUMNS`, ``flags`` (mask bits within a pixel), ``reliability`` (0…1).
        Metadata: `noise_scale`, `fwhm_px`, `aperture_radius_px`, `threshold`.
    """
    result = score_image(difference)
    ny, nx = difference.shape
    x0, y0, x1, y1 = planes.extent(np.isfinite(difference.image))
    fwhm = difference.psf.fwhm((x0 + x1) / 2, (y0 + y1) / 2)
    x, y, snr = [], [], []
    for sign in (1, -1):
        score = result.score if sign > 0 else -result.score
        column, row = find_peaks(score, OPPOSITE_THRESHOLD)
        xs, ys = _sub_pixel(score, column, row)
        x.append(xs)
        y.append(ys)
        snr.append(sign * score[row, column])
    x, y, snr = (np.concatenate(v).astype(float) for v in (x, y, snr))
    dipole = _dipoles(x, y, snr, fwhm)
    keep = np.flatnonzero(np.abs(snr) > threshold)
    keep = keep[np.argsort(-np.abs(snr[keep]))]
    x, y, snr, dipole = x[keep], y[keep], snr[keep], dipole[keep]

    table = Table({"x": x, "y": y, "snr": snr})
    spread = fwhm / FWHM_PER_SIGMA * 1.4 / np.maximum(np.abs(snr), 1)
    table["x_err"] = table["y_err"] = spread
    sign = np.sign(snr)
    fit = psf_fluxes(difference, x, y, radius=int(np.ceil(2 * fwhm)), min_usable=0.4)
    table["flux"], table["flux_err"] = fit.flux, fit.flux_err * result.noise_scale
    wide = psf_fluxes(difference, x, y, radius=max(3, int(np.ceil(fwhm))), min_usable=0.0)
    scatter2 = pixel_scatter(difference, x, y) ** 2
    table["chi2"], table["usable"] = wide.chi2 / scatter2, wide.usable
    core = psf_fluxes(difference, x, y, radius=max(3, int(np.ceil(0.6 * fwhm))), min_usable=0.0)
    table["core_chi2"] = core.chi2 / scatter2
    radius = 1.5 * fwhm
    table["ap_flux"], table["ap_flux_err"], table["ap_flag"] = aperture_fluxes(difference, x, y, radius)
    shapes = np.array([_shape(difference, *at, fwhm) for at in zip(x, y, sign)]).reshape(-1, 5)
    for k, name in enumerate(("ixx", "iyy", "ixy", "sharpness", "variance_ratio")):
        table[name] = shapes[:, k]
    sky = np.median(difference.variance[::5, ::5][np.isfinite(difference.variance[::5, ::5])]) if len(x) else 1.0
    table["variance_ratio"] /= sky
    bits = np.array([_bits(difference.mask, *at) for at in zip(x, y)], np.int32)
    table["flags"] = bits
    for name, wanted in FLAG_COLUMNS.items():
        table[name] = (bits & wanted) != 0
    margin = np.minimum(np.minimum(x, nx - 1 - x), np.minimum(y, ny - 1 - y)) if len(x) else x
    table["edge"] |= margin < 1.5 * fwhm
    table["negative"], table["dipole"] = snr < 0, dipole
    table["reliability"] = reliability(table)
    for row in table:
        box = np.s_[max(int(row["y"]) - 2, 0) : int(row["y"]) + 4, max(int(row["x"]) - 2, 0) : int(row["x"]) + 4]
        difference.mask[box] |= planes.DETECTED_NEGATIVE if row["negative"] else planes.DETECTED
    table.meta |= {
        "noise_scale": result.noise_scale, "fwhm_px": fwhm, "aperture_radius_px": radius, "threshold": threshold,
    }  # fmt: skip
    return table


def reliability(table: Table) -> np.ndarray:
    """Return how far a source looks like a point source on clean pixels, 0…1: a product of one factor for each doubt.

    The factors: significance (0.5 at 5 σ, 1 from 6 σ), fit of the PSF, peak neither sharper nor flatter than the PSF,
    fraction of the PSF on good pixels, dipole, bits of the mask, agreement of the flux that is fitted with all pixels
    alike and the significance that trusts quiet pixels more, and the variance of what it lies upon.
    """
    snr = np.abs(np.asarray(table["snr"], float))
    significance = np.clip((snr - 4) / 2, 0, 1)
    # a PSF true to 3 % leaves residuals that grow with the flux; χ² of the core's 50 pixels scatters by 0.2
    imperfect = (0.03 * snr) ** 2
    wide, core = (np.nan_to_num(np.asarray(table[name], float), nan=9.0) for name in ("chi2", "core_chi2"))
    excess = np.maximum(np.maximum(wide - 1, 0) / (0.7 + imperfect), np.maximum(core - 1.2, 0) / (0.35 + imperfect))
    fit = np.exp(-0.5 * excess**2)
    # the noise of the peak pixel is about a quarter of that of the flux
    off_peak = np.abs(np.clip(np.nan_to_num(np.asarray(table["sharpness"], float), nan=9.0), 0, 9) - 1)
    peak = np.exp(-0.5 * (np.maximum(off_peak - 6.0 / np.maximum(snr, 1), 0) / 0.6) ** 2)
    coverage = np.clip((np.asarray(table["usable"], float) - 0.5) / 0.4, 0, 1)
    flags = np.asarray(table["flags"])
    clean = np.where(flags & planes.UNUSABLE != 0, 0.4, np.where(flags & planes.SUSPECT != 0, 0.7, 1.0))
    with np.errstate(all="ignore"):
        fitted = np.asarray(table["flux"], float) / np.asarray(table["flux_err"], float)
    agreement = np.clip((np.nan_to_num(fitted / np.asarray(table["snr"], float)) - 0.3) / 0.4, 0, 1)
    single = np.where(table["dipole"], 0.1, 1.0)
    faint_host = 1 / (1 + (np.maximum(np.asarray(table["variance_ratio"], float) - 1, 0) / 20) ** 2)
    return np.nan_to_num(significance * fit * peak * coverage * clean * agreement * single * faint_host)


def _dipoles(x: np.ndarray, y: np.ndarray, snr: np.ndarray, fwhm: float) -> np.ndarray:
    """Return which peaks have a comparable peak of the other sign nearby: a star subtracted at the wrong place."""
    dipole = np.zeros(len(x), bool)
    positive, negative = np.flatnonzero(snr > 0), np.flatnonzero(snr < 0)
    if not len(positive) or not len(negative):
        return dipole
    points = np.stack([x, y], 1)
    tree = cKDTree(points[negative])
    for i, near in zip(positive, tree.query_ball_point(points[positive], 2 * fwhm)):
        for k in negative[near]:
            weak, strong = sorted((snr[i], -snr[k]))
            if weak > DIPOLE_RATIO * strong:
                dipole[i] = dipole[k] = True
    return dipole


def _bits(mask: np.ndarray, x: float, y: float) -> int:
    """Return the mask bits within a pixel of a position."""
    column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    box = mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    return int(np.bitwise_or.reduce(box, axis=None)) if box.size else 0


def _shape(difference: MaskedImage, x: float, y: float, sign: float, fwhm: float) -> tuple[float, ...]:
    """Return second moments with a Gaussian weight of the PSF's width, sharpness, and the local variance."""
    column, row, half = int(np.floor(x + 0.5)), int(np.floor(y + 0.5)), int(np.ceil(1.5 * fwhm))
    ny, nx = difference.shape
    y0, y1, x0, x1 = max(row - half, 0), min(row + half + 1, ny), max(column - half, 0), min(column + half + 1, nx)
    pixels = sign * difference.image[y0:y1, x0:x1]
    good = np.isfinite(pixels) & ((difference.mask[y0:y1, x0:x1] & planes.UNUSABLE) == 0)
    variance = difference.variance[row, column]
    if not good.any():
        return np.nan, np.nan, np.nan, np.nan, variance
    dy, dx = np.mgrid[y0:y1, x0:x1] - np.array([y, x])[:, None, None]
    sigma2 = (fwhm / FWHM_PER_SIGMA) ** 2
    weighted = np.where(good, pixels, 0) * np.exp(-(dx**2 + dy**2) / (2 * sigma2))
    total = weighted.sum()
    moments = [np.nan] * 3 if total <= 0 else [(weighted * q).sum() / total for q in (dx * dx, dy * dy, dx * dy)]
    psf = difference.psf.stamp(x, y)
    middle = len(psf) // 2
    core = np.s_[middle - 1 : middle + 2, middle - 1 : middle + 2]
    inner = sign * difference.image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    reach = min(middle, half)
    wide = psf[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    # peak pixel over the light in the 3×3 core, relative to the PSF's: noise-free of the wings, sharp for cosmic rays
    expected = psf[middle, middle] / psf[core].sum()
    seen = inner[inner.shape[0] // 2, inner.shape[1] // 2] / inner.sum() if inner.sum() > 0 else np.nan
    return *moments, seen / expected if wide.sum() > 0 else np.nan, variance
