"""Astrometric calibration: sources matched to reference stars, the header's distortion corrected by a polynomial."""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA, monomials
from proc_decam_dagster.pixels.reference import ReferenceStars
from proc_decam_dagster.pixels.tangent import PlateModel, project

_ROUNDS = ((4.0, 1), (1.5, 1), (0.6, 1), (0.4, 2), (0.3, 3), (0.3, 3))
"""Matching radius in arcsec and highest degree of each round of matching and fitting."""


@dataclass(frozen=True)
class AstrometricFit:
    """An astrometric solution.

    Attributes
    ----------
    wcs : `astropy.wcs.WCS`
        TPV, ICRS.
    n_matched : `int`
        Stars that the fit kept.
    rms_mas : `float`
        Scatter of the kept stars per axis, weighted as in the fit, milliarcsec.
    bright_rms_mas : `float`
        The same of the brightest third.
    offset_arcsec : `tuple` [`float`, `float`]
        Error of the header's pointing (ξ, η) that was found.
    degree : `int`
        Degree of the correction.
    source_index, reference_index : `numpy.ndarray`, (n_matched,)
        The pairs.
    """

    wcs: WCS
    n_matched: int
    rms_mas: float
    bright_rms_mas: float
    offset_arcsec: tuple[float, float]
    degree: int
    source_index: np.ndarray
    reference_index: np.ndarray


def find_offset(
    sources: np.ndarray, references: np.ndarray, radius: float, bin_width: float = 2.0
) -> tuple[np.ndarray, int, float]:
    """Return the offset, reference minus source, at which most pairs agree.

    Parameters
    ----------
    sources, references : `numpy.ndarray`, (n, 2)
        Tangent-plane positions, arcsec.
    radius : `float`
        Largest offset an axis, arcsec.
    bin_width : `float`
        Width of a bin of the histogram of offsets, arcsec; neighbouring bins are added up in twos.

    Returns
    -------
    offset : `numpy.ndarray`, (2,)
        Arcsec.
    peak : `int`
        Pairs at the offset.
    chance : `float`
        Pairs expected there by chance.
    """
    pairs = cKDTree(sources).query_ball_tree(cKDTree(references), radius * np.sqrt(2))
    difference = np.concatenate(
        [references[near] - source for source, near in zip(sources, pairs) if near] or [np.zeros((0, 2))]
    )
    difference = difference[(np.abs(difference) < radius).all(1)]
    n_bins = int(np.ceil(2 * radius / bin_width))
    counts, edges, _ = np.histogram2d(*difference.T, bins=n_bins, range=[[-radius, radius]] * 2)
    quads = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
    i, j = np.unravel_index(quads.argmax(), quads.shape)
    offset = np.array([edges[i + 1], edges[j + 1]])
    for width in (bin_width, bin_width / 2):
        near = difference[(np.abs(difference - offset) < width).all(1)]
        if len(near):
            offset = np.median(near, axis=0)
    return offset, int(quads.max()), float(quads.mean())


def solve(
    wcs: WCS,
    shape: tuple[int, int],
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    snr: np.ndarray,
    fwhm: float,
    stars: ReferenceStars,
    *,
    search_arcsec: tuple[float, ...] = (40.0, 150.0),
    max_degree: int = 3,
    min_matched: int = 12,
    max_rms_mas: float = 150.0,
    floor_mas: float = 5.0,
) -> AstrometricFit:
    """Return the WCS of an image.

    Parameters
    ----------
    wcs : `astropy.wcs.WCS`
        The header's: right in distortion, scale and orientation; wrong in pointing.
    shape : `tuple` [`int`, `int`]
        Shape (ny, nx) of the image.
    x, y, flux, snr : `numpy.ndarray`, (n,)
        Sources with good centroids.
    fwhm : `float`
        Seeing, pixels: a centroid's error is ``fwhm / 2.35 / snr``.
    stars : `ReferenceStars`
        At the exposure's epoch.
    search_arcsec : `tuple` [`float`, …]
        Largest pointing errors tried, one after the other.
    max_degree : `int`
        Highest degree of the correction; the data choose among 1 … ``max_degree``.
    min_matched, max_rms_mas
        Below and above these the solution is refused.
    floor_mas : `float`
        Error of the best centroid: the atmosphere.

    Raises
    ------
    MeasurementFailure
        If there are too few sources or reference stars, no offset stands out, or the solution cannot be trusted.
        There is never a WCS then.
    """
    plate = PlateModel.of_wcs(wcs, shape)
    pixel_arcsec = float(np.sqrt(abs(np.linalg.det(plate.linear)))) * 3600
    half_diagonal = 0.5 * np.hypot(*shape) * pixel_arcsec
    reference = np.stack(project(stars.ra, stars.dec, plate.ra0, plate.dec0), 1) * 3600
    inside = np.flatnonzero(np.hypot(*reference.T) < half_diagonal + 1.5 * max(search_arcsec))
    if len(x) < min_matched or len(inside) < min_matched:
        raise MeasurementFailure(
            f"astrometry has {len(x)} sources and {len(inside)} reference stars; {min_matched} of each are needed",
            n_sources=len(x), n_reference=len(inside), needed=min_matched,
        )  # fmt: skip
    reference, errors = reference[inside], stars.position_error_mas[inside]
    offset = _pointing_error(plate, x, y, flux, reference, stars.flux[inside], search_arcsec, min_matched)
    plate.coefficients[:, 0] += offset / 3600
    sigma = np.hypot(fwhm / FWHM_PER_SIGMA / np.maximum(snr, 1) * pixel_arcsec * 1e3, floor_mas)
    source, match, keep, residual, degree = _fit(plate, x, y, reference, errors, sigma, max_degree, min_matched)
    rms = float(np.sqrt(np.average((residual[keep] ** 2).mean(1), weights=1 / sigma[source[keep]] ** 2)))
    bright = keep & (snr[source] >= np.quantile(snr[source[keep]], 2 / 3))
    fit = AstrometricFit(
        plate.wcs(), int(keep.sum()), rms, float(np.sqrt((residual[bright] ** 2).mean())),
        (float(offset[0]), float(offset[1])), degree, source[keep], inside[match[keep]],
    )  # fmt: skip
    _refuse_bad(fit, plate, x, y, flux, reference, min_matched, max_rms_mas)
    return fit


def _pointing_error(plate, x, y, flux, reference, reference_flux, search_arcsec, min_matched):
    """Return the header's pointing error (ξ, η), arcsec; only the brightest of both sides vote."""
    brightest = np.argsort(-flux)[:300]
    predicted = plate.plane(x[brightest], y[brightest]) * 3600
    told = []
    for radius in search_arcsec:
        half = np.abs(predicted).max(0) + radius
        near = (np.abs(reference) < half).all(1)
        candidates = np.flatnonzero(near)
        if np.isfinite(reference_flux[candidates]).any():
            candidates = candidates[np.argsort(-np.nan_to_num(reference_flux[candidates]))][:400]
        if len(candidates) < min_matched:
            told.append(f"{len(candidates)} reference stars within {radius:.0f} arcsec")
            continue
        offset, peak, chance = find_offset(predicted, reference[candidates], radius)
        if peak >= max(0.6 * min_matched, chance + 6 * np.sqrt(max(chance, 1))):
            return offset
        told.append(f"best of {peak} pairs within {radius:.0f} arcsec where chance gives {chance:.1f}")
    raise MeasurementFailure(
        f"no pointing offset matches sources to reference stars: {'; '.join(told)}",
        n_sources=len(x), n_reference=len(reference),
    )  # fmt: skip


def _fit(plate, x, y, reference, errors, sigma, max_degree, min_matched):
    """Match and fit in rounds, correcting ``plate`` in place; return pairs, those kept, residuals (mas) and degree."""
    ny, nx = plate.shape
    u, v = 2 * x / nx - 1, 2 * y / ny - 1
    tree = cKDTree(reference)
    degree = 1
    for radius, limit in _ROUNDS:
        position = plate.plane(x, y) * 3600
        distance, nearest = tree.query(position, distance_upper_bound=radius)
        source = np.flatnonzero(np.isfinite(distance))
        match = nearest[source]
        # A reference star belongs to its nearest source only.
        order = np.argsort(distance[source])
        _, first = np.unique(match[order], return_index=True)
        source, match = source[order[first]], match[order[first]]
        if len(source) < min_matched:
            raise MeasurementFailure(
                f"{len(source)} sources match reference stars within {radius} arcsec; {min_matched} are needed",
                n_matched=len(source), needed=min_matched,
            )  # fmt: skip
        residual = (reference[match] - position[source]) * 1e3
        error = np.hypot(sigma[source], errors[match])
        best = None
        for trial in range(1, min(limit, max_degree) + 1):
            terms = monomials(u[source], v[source], trial).T
            if terms.shape[1] * 3 > len(source):
                break
            step, keep, left = _clipped(terms, residual, error, 25.0 * radius)
            # Bayesian information criterion: a degree is used only where the data ask for it.
            wings = np.hypot(error, np.median(np.abs(left[keep])) * 0.5)[:, None]
            score = (np.minimum((left / wings) ** 2, 9)).sum() + 2 * terms.shape[1] * np.log(2 * len(source))
            if best is None or score < best[0]:
                best = score, trial, step, keep, left
        _, degree, step, keep, residual = best
        _correct(plate, step / 3.6e6, degree)
    return source, match, keep, residual, degree


def _clipped(terms, residual, error, floor):
    """Return a weighted fit of residuals (n, 2), the stars kept after clipping, and what is left."""
    keep = np.ones(len(residual), bool)
    middle = np.median(residual, axis=0)
    keep = (np.abs(residual - middle) < max(floor, 4 * 1.4826 * np.median(np.abs(residual - middle)))).all(1)
    extra = 0.0
    for _ in range(6):
        weight = 1 / np.hypot(error, extra)
        step = np.linalg.lstsq(terms[keep] * weight[keep, None], residual[keep] * weight[keep, None], rcond=None)[0]
        left = residual - terms @ step
        pull = np.hypot(*left.T) * weight
        # Median of a two-dimensional Gaussian's radius is 1.177 sigma.
        scale = np.median(pull[keep]) / 1.177
        extra = max(extra, np.sqrt(max(scale**2 - 1, 0)) * np.median(error[keep]))
        fresh = pull < 3.5 * max(scale, 1)
        if (fresh == keep).all():
            break
        keep = fresh
    return step, keep, left


def _correct(plate: PlateModel, step: np.ndarray, degree: int) -> None:
    """Add a polynomial in normalised pixels, (n_terms, 2) degrees, to a plate model's own polynomial, in place."""
    ny, nx = plate.shape
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, 12), np.linspace(0, ny - 1, 24)))
    change = step.T @ monomials(2 * x / nx - 1, 2 * y / ny - 1, degree)
    plate.coefficients = plate.coefficients + plate.polynomial_through(*plate.intermediate(x, y), change)


def _refuse_bad(fit, plate, x, y, flux, reference, min_matched, max_rms_mas):
    """Raise if a solution is no solution: too few matches, too much scatter, or a CCD that it bends."""
    figures = {"n_matched": fit.n_matched, "rms_mas": fit.rms_mas}
    if fit.n_matched < min_matched:
        raise MeasurementFailure(f"{fit.n_matched} stars remain in the astrometric fit; {min_matched} are needed",
                                 needed=min_matched, **figures)  # fmt: skip
    if fit.rms_mas > max_rms_mas:
        raise MeasurementFailure(f"astrometric scatter is {fit.rms_mas:.0f} mas; at most {max_rms_mas:.0f} is a match",
                                 **figures)  # fmt: skip
    linear = plate.coefficients[:, 1:3]
    change = float(np.abs(linear - np.eye(2)).max())
    if change > 0.02:
        raise MeasurementFailure(f"the astrometric fit changes the header's scale or orientation by "
                                 f"{100 * change:.1f} %: a wrong match", change=change, **figures)  # fmt: skip
    # Of the reference stars on the image most must have been found, or the match is chance.
    ny, nx = plate.shape
    corners = plate.plane(np.array([0, nx, nx, 0]), np.array([0, 0, ny, ny])) * 3600
    on_image = ((reference > corners.min(0)) & (reference < corners.max(0))).all(1).sum()
    possible = min(int(on_image), len(x))
    if fit.n_matched < 0.2 * possible:
        raise MeasurementFailure(f"{fit.n_matched} of {possible} possible stars match: a chance alignment",
                                 n_possible=possible, **figures)  # fmt: skip
