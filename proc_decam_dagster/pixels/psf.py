"""The PSF of an image: choice of its stars, and the pixel-grid model fitted to them."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.photometry import encircled_fraction
from proc_decam_dagster.pixels.psf_model import PsfModel, monomials, shift
from proc_decam_dagster.pixels.psf_shape import denoise

HIDDEN_IN_FWHM = 1.3
"""Radius around a neighbour whose pixels are not used, in units of the seeing."""

WEIGHT_LIMIT = 0.3
"""Noise that is added to that of each star in the weights, relative to the median star's."""

SMALL_MISFIT = 0.01
"""Misfit of a star that is never called an outlier's, relative to the star."""


@dataclass(frozen=True)
class PsfFit:
    """A fitted PSF.

    Attributes
    ----------
    model : `PsfModel`
    used : `numpy.ndarray`, (n_candidates,), bool
        Candidates that the fit kept.
    fwhm : `float`
        Full width at half maximum at the middle of the image, pixels.
    stamp_fraction : `float`
        Fraction of a star's light within the model's stamp.
    """

    model: PsfModel
    used: np.ndarray
    fwhm: float
    stamp_fraction: float


def half_light_mode(radius: np.ndarray) -> float:
    """Return the most frequent half-light radius: the midpoint of the shortest interval holding a quarter of them."""
    ordered = np.sort(radius[np.isfinite(radius)])
    if len(ordered) < 4:
        raise MeasurementFailure(f"{len(ordered)} bright sources are too few to tell stars from galaxies",
                                 n_bright=len(ordered))  # fmt: skip
    n = max(3, len(ordered) // 4)
    width = ordered[n - 1 :] - ordered[: len(ordered) - n + 1]
    start = int(width.argmin())
    return float(np.median(ordered[start : start + n]))


def select_stars(
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    snr: np.ndarray,
    half_light: np.ndarray,
    clean: np.ndarray,
    *,
    min_snr: float = 50.0,
    isolation: float = 20.0,
    wanted: int = 300,
    minimum: int = 8,
) -> np.ndarray:
    """Return the indices of bright, isolated stars for the PSF, brightest first.

    Parameters
    ----------
    x, y, flux, snr, half_light : `numpy.ndarray`, (n,)
        All sources: position, flux, signal-to-noise ratio and half-light radius (pixels).
    clean : `numpy.ndarray`, (n,), bool
        Sources without saturated or bad pixels.
    min_snr : `float`
        Faintest star that is used; lowered to 20 where there are too few.
    isolation : `float`
        No source brighter than 2 % of the star may be nearer, pixels.
    wanted, minimum : `int`
        Number of stars at most and at least.

    Raises
    ------
    MeasurementFailure
        If fewer than ``minimum`` stars are found.
    """
    points = np.stack([x, y], 1)
    tree = cKDTree(points)
    for limit in (min_snr, 20.0):
        bright = clean & (snr > limit) & np.isfinite(half_light)
        if bright.sum() < max(minimum, 4):
            continue
        locus = half_light_mode(half_light[bright])
        candidates = np.flatnonzero(bright & (np.abs(half_light - locus) < 0.12 * locus))
        candidates = candidates[np.argsort(-flux[candidates])]
        chosen = []
        for index in candidates:
            near = [n for n in tree.query_ball_point(points[index], isolation) if n != index]
            if not near or flux[near].max() < 0.02 * flux[index]:
                chosen.append(index)
            if len(chosen) == wanted:
                break
        if len(chosen) >= minimum:
            return np.array(chosen)
    raise MeasurementFailure(
        f"{int((clean & (snr > 20)).sum())} clean sources above signal-to-noise 20 hold fewer than {minimum} isolated "
        "stars for the PSF",
        n_sources=len(x), n_clean=int((clean & (snr > 20)).sum()), needed=minimum,
    )  # fmt: skip


def _cut(image: np.ndarray, x: float, y: float, half: int) -> np.ndarray | None:
    """Return the stamp around a position, or `None` where it leaves the image."""
    cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    ny, nx = image.shape
    if cx - half < 0 or cy - half < 0 or cx + half >= nx or cy + half >= ny:
        return None
    return image[cy - half : cy + half + 1, cx - half : cx + half + 1]


def _recentred(image: np.ndarray, x: float, y: float, half: int) -> np.ndarray | None:
    """Return the stamp around a position moved so that the position is its middle pixel."""
    stamp = _cut(image, x, y, half + 3)
    if stamp is None:
        return None
    return shift(stamp, np.floor(x + 0.5) - x, np.floor(y + 0.5) - y)[3:-3, 3:-3]


def _degree(n_stars: int, wanted: int) -> int:
    """Return the highest degree that a number of stars can carry.

    A quadratic is worth its noise from three stars a term on; what a cubic adds is so small in DECam's PSF that it
    takes four times as many.
    """
    degree = wanted
    while degree and (3 if degree <= 2 else 12) * (degree + 1) * (degree + 2) // 2 > n_stars:
        degree -= 1
    return degree


def fit_psf(
    exposure: MaskedImage,
    x: np.ndarray,
    y: np.ndarray,
    fwhm: float,
    *,
    degree: int = 3,
    iterations: int = 2,
    minimum: int = 8,
    others: tuple[np.ndarray, np.ndarray] | None = None,
) -> PsfFit:
    """Fit a PSF to stars.

    Parameters
    ----------
    exposure : `MaskedImage`
        Background-subtracted image.
    x, y : `numpy.ndarray`, (n,)
        Positions of the stars, pixels: windowed centroids.
    fwhm : `float`
        Approximate seeing, pixels; it sets the size of the stamp (7 FWHM).
    degree : `int`
        Degree of the variation over the detector; lowered where stars are too few (three a term, twelve above the
        quadratic).
    iterations : `int`
        Times that the residuals of the model at each star's own sub-pixel position are folded back, which removes the
        smoothing of the first recentring.
    minimum : `int`
        Fewest stars.
    others : `tuple` [`numpy.ndarray`, `numpy.ndarray`], optional
        Positions (x, y) of all sources of the image: the pixels around neighbours are not used.

    Raises
    ------
    MeasurementFailure
        If fewer than ``minimum`` stars remain.
    """
    half = int(np.clip(np.ceil(3.5 * fwhm), 10, 24))
    positions, stamps, index = [], [], []
    for i, (px, py) in enumerate(zip(x, y)):
        flags = _cut(exposure.mask, px, py, half)
        if flags is None or (flags & planes.UNUSABLE).any():
            continue
        stamp = _recentred(exposure.image, px, py, half)
        if stamp is None or not np.isfinite(stamp).all():
            continue
        positions.append((px, py))
        stamps.append(stamp)
        index.append(i)
    if len(stamps) < minimum:
        raise MeasurementFailure(f"{len(stamps)} stars have whole, unmasked stamps; {minimum} are needed for a PSF",
                                 n_stars=len(stamps), needed=minimum)  # fmt: skip
    points, cube, index = np.array(positions), np.stack(stamps), np.array(index)
    noise = np.array([np.sqrt(np.median(_cut(exposure.variance, *p, half))) for p in points])
    hidden = _neighbours(points, others, half, HIDDEN_IN_FWHM * fwhm)
    model, keep, flux = _fit_cube(exposure.shape, points, cube, hidden, noise, degree, minimum)
    stars = points[keep], flux[keep], noise[keep]
    for _ in range(max(iterations, 1)):
        model, variance = _refine(exposure, model, *stars, hidden[keep])
    model = PsfModel(_normalised(denoise(model.coefficients, variance, fwhm)), model.degree, model.shape)
    middle = exposure.shape[1] / 2, exposure.shape[0] / 2
    width = model.fwhm(*middle)
    profile, profile_noise = _wide_stack(exposure, *stars, width)
    fraction = encircled_fraction(profile, profile_noise, width, half)
    model = PsfModel((model.coefficients * fraction).astype(np.float32), model.degree, model.shape)
    used = np.zeros(len(x), bool)
    used[index[keep]] = True
    return PsfFit(model, used, width, fraction)


def _neighbours(points, others, half: int, radius: float) -> np.ndarray:
    """Return which pixels of each star's stamp are within ``radius`` of another source, (n, size, size)."""
    size = 2 * half + 1
    hidden = np.zeros((len(points), size, size), bool)
    if others is None:
        return hidden
    sources = np.stack(others, 1)
    tree = cKDTree(sources)
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    for star, point in zip(hidden, points):
        for other in sources[tree.query_ball_point(point, np.sqrt(2) * half + radius)] - point:
            if np.hypot(*other) > radius:  # nearer ones are the star itself
                star |= (dx - other[0]) ** 2 + (dy - other[1]) ** 2 < radius**2
    return hidden


def _solve(terms: np.ndarray, cube: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the coefficients (n_terms, size, size) of a weighted fit of unit-sum stamps, (n, size, size)."""
    scaled = terms * weight[:, None]
    data = cube.reshape(len(cube), -1) * weight[:, None]
    return np.linalg.lstsq(scaled, data, rcond=None)[0].reshape(terms.shape[1], *cube.shape[1:])


def _weights(noise: np.ndarray, flux: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Return weights by the noise of unit stamps, sky and photons, limited so that a few bright stars do not decide."""
    relative = np.sqrt((noise / flux) ** 2 + (profile**2).sum() / np.abs(flux))
    return 1 / np.hypot(relative, WEIGHT_LIMIT * np.median(relative))


def _amplitudes(cube: np.ndarray, shapes: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return each stamp's flux: its amplitude against its own PSF on pixels that are not hidden, (n,)."""
    seen = np.where(hidden, 0, shapes)
    return (cube * seen).sum((1, 2)) / (seen**2).sum((1, 2))


def _fit_cube(shape, points, cube, hidden, noise, degree, minimum):
    """Fit recentred stamps, outliers rejected; return the model, the stars kept and their fluxes.

    Hidden pixels are given the model's own value in each round, so that they do not change it.
    """
    size = cube.shape[-1]
    keep = np.ones(len(cube), bool)
    flux = np.where(hidden, 0, cube).sum((1, 2))
    keep &= flux > 0
    reference = np.median(cube[keep] / flux[keep, None, None], 0)
    reference /= reference.sum()
    shapes = np.broadcast_to(reference, cube.shape)
    core = slice(size // 4, size - size // 4)
    for _ in range(5):
        flux = _amplitudes(cube, shapes, hidden)
        keep &= flux > 0
        cube = np.where(hidden, flux[:, None, None] * shapes, cube)
        # A wrong profile shows as a misfit beyond the noise of sky and photons, relative to flux; clipped against its
        # own median, which is no less than what recentring does to the sharpest stars.
        inner = shapes[:, core, core]
        misfit = cube[:, core, core] / flux[:, None, None] - inner
        expected = np.sqrt((noise / flux) ** 2 * misfit[0].size + inner.sum((1, 2)) / np.abs(flux))
        score = np.sqrt(np.maximum((misfit**2).sum((1, 2)) - expected**2, 0))
        typical = max(np.median(score[keep]), SMALL_MISFIT * np.sqrt((reference**2).sum()))
        fresh = keep & (score < 3 * typical + 2 * expected / misfit[0].size ** 0.25)
        if fresh.sum() < minimum:
            raise MeasurementFailure(f"{int(fresh.sum())} of {len(cube)} stars agree on a PSF; {minimum} are needed",
                                     n_stars=int(fresh.sum()), needed=minimum)  # fmt: skip
        terms = monomials(points[:, 0] / shape[1] - 0.5, points[:, 1] / shape[0] - 0.5,
                          _degree(int(fresh.sum()), degree)).T  # fmt: skip
        unit = cube / flux[:, None, None]
        coefficients = _normalised(_solve(terms[fresh], unit[fresh], _weights(noise[fresh], flux[fresh], reference)))
        shapes = np.tensordot(terms, coefficients, 1)
        stable = (fresh == keep).all()
        keep = fresh
        if stable:
            break
    return PsfModel(coefficients, _degree(int(keep.sum()), degree), shape), keep, _amplitudes(cube, shapes, hidden)


def _normalised(coefficients: np.ndarray) -> np.ndarray:
    """Return coefficients whose sum is 1 everywhere: the first term sums to 1, every other to 0."""
    total = coefficients.sum((1, 2), keepdims=True)
    first = coefficients[0] / total[0]
    rest = coefficients[1:] / total[0] - total[1:] / total[0] * first
    return np.concatenate([first[None], rest])


def _refine(exposure, model, points, flux, noise, hidden):
    """Return the model with the mean residual of its stars folded back, each taken at its own sub-pixel position.

    Pixels that are hidden or far off the model (a source too faint to be found by itself) count as without residual.
    Also returned is the noise variance of each coefficient, (n_terms, size, size).
    """
    half = model.size // 2
    residuals = []
    for (px, py), covered, rendered in zip(points, hidden, model.stamps(*points.T)):
        data, variance = _cut(exposure.image, px, py, half), _cut(exposure.variance, px, py, half)
        seen = np.where(covered, 0, rendered)
        amplitude = (data * seen).sum() / (seen**2).sum()
        residual = data - amplitude * rendered
        residual[covered | (residual**2 > 25 * variance + (0.5 * amplitude * rendered) ** 2)] = 0
        residuals.append(shift(residual / amplitude, np.floor(px + 0.5) - px, np.floor(py + 0.5) - py))
    terms = monomials(points[:, 0] / model.shape[1] - 0.5, points[:, 1] / model.shape[0] - 0.5, model.degree).T
    weight = _weights(noise, flux, model.coefficients[0])
    step = _solve(terms, np.stack(residuals), weight)
    inverse = np.linalg.pinv(terms * weight[:, None]) * weight
    sky, photons = (inverse**2) @ (noise / flux) ** 2, (inverse**2) @ (1 / flux)
    light = np.clip(model.coefficients[0], 0, None)
    variance = sky[:, None, None] + photons[:, None, None] * light
    return PsfModel(_normalised(model.coefficients + step), model.degree, model.shape), variance


def _wide_stack(exposure, points, flux, noise, fwhm):
    """Return the weighted mean of the stars' wide stamps, unit flux, (size, size), and its noise per pixel.

    Neighbours are clipped against the median, so the wings are those of the stars themselves.
    """
    half = int(np.ceil(5.5 * fwhm))
    stamps, good, chosen = [], [], []
    for i in np.argsort(-flux):
        flags = _cut(exposure.mask, *points[i], half + 3)
        stamp = _recentred(exposure.image, *points[i], half)
        if stamp is None or flags is None or not np.isfinite(stamp).all():
            continue
        stamps.append(stamp / flux[i])
        good.append((flags[3:-3, 3:-3] & planes.UNUSABLE) == 0)
        chosen.append(i)
        if len(stamps) == 40:
            break
    if len(stamps) < 3:
        raise MeasurementFailure(f"{len(stamps)} stars lie far enough from the edge to measure the PSF's wings",
                                 n_stars=len(stamps), needed=3)  # fmt: skip
    cube, good = np.stack(stamps), np.stack(good)
    relative = (noise[chosen] / flux[chosen])[:, None, None]
    median = np.median(cube, axis=0)
    tolerance = 4 * np.sqrt(relative**2 + np.clip(median, 0, None) / flux[chosen][:, None, None]) + 0.1 * np.abs(median)
    weight = np.where(good & (np.abs(cube - median) < tolerance), 1 / relative**2, 0)
    total = np.maximum(weight.sum(0), 1e-30)
    return (weight * cube).sum(0) / total, float(1 / np.sqrt(np.median(total)))
