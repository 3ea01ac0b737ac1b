"""Photometric calibration: the zero point of an image against reference stars."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.psf_model import AB_ZERO_POINT
from proc_decam_dagster.pixels.reference import ReferenceStars
from proc_decam_dagster.pixels.tangent import project

MAG_PER_FRACTION = 2.5 / np.log(10)


@dataclass(frozen=True)
class ZeroPoint:
    """A zero point.

    Attributes
    ----------
    magnitude : `float`
        AB magnitude of a source of 1 electron in the exposure.
    error : `float`
        Standard error, mag.
    scatter : `float`
        Scatter of the stars that were kept, mag.
    flux_scale : `float`
        nJy an electron.
    n_stars : `int`
        Stars that were kept.
    source_index, reference_index : `numpy.ndarray`, (n_stars,)
        The pairs.
    """

    magnitude: float
    error: float
    scatter: float
    flux_scale: float
    n_stars: int
    source_index: np.ndarray
    reference_index: np.ndarray


def flux_scale(zero_point: float) -> float:
    """Return nJy an electron for the AB magnitude of 1 electron."""
    return float(10 ** ((AB_ZERO_POINT - zero_point) / 2.5))


def measure(
    ra: np.ndarray,
    dec: np.ndarray,
    flux: np.ndarray,
    flux_err: np.ndarray,
    stars: ReferenceStars,
    *,
    radius_arcsec: float = 0.7,
    min_snr: float = 30.0,
    min_stars: int = 5,
    floor: float = 0.004,
    max_scatter: float = 0.3,
    min_agreement: float = 0.4,
) -> ZeroPoint:
    """Return the zero point from stars and their total fluxes.

    Parameters
    ----------
    ra, dec : `numpy.ndarray`, (n,)
        Positions, degrees.
    flux, flux_err : `numpy.ndarray`, (n,)
        Total fluxes, electrons.
    stars : `ReferenceStars`
        With fluxes in the nearest band, nJy.
    radius_arcsec : `float`
        Matching radius.
    min_snr : `float`
        Least signal-to-noise ratio here and in the reference; lowered to 10 where too few stars reach it.
    min_stars, min_agreement, max_scatter
        With fewer stars, a smaller share of the matches, or more scatter (mag) the zero point is refused.
    floor : `float`
        Calibration error of a bright star, mag.

    Raises
    ------
    MeasurementFailure
        If too few stars match, or they disagree.
    """
    usable = np.isfinite(stars.flux) & (stars.flux > 0)
    reference = np.flatnonzero(usable)
    if not len(reference) or not len(ra):
        raise MeasurementFailure(f"the zero point has {len(ra)} stars and {len(reference)} reference fluxes",
                                 n_sources=len(ra), n_reference=len(reference))  # fmt: skip
    ra0, dec0 = float(np.median(ra)), float(np.median(dec))
    tree = cKDTree(np.stack(project(stars.ra[reference], stars.dec[reference], ra0, dec0), 1) * 3600)
    distance, nearest = tree.query(np.stack(project(ra, dec, ra0, dec0), 1) * 3600, distance_upper_bound=radius_arcsec)
    good = np.isfinite(distance) & (flux > 0) & (flux_err > 0)
    match = np.where(good, reference[np.minimum(nearest, len(reference) - 1)], 0)
    relative = np.where(good, flux_err / np.where(good, flux, 1), np.inf)
    catalogue = np.nan_to_num(stars.flux_err[match] / np.where(good, stars.flux[match], 1), nan=0.02)
    for limit in (min_snr, 10.0):
        chosen = np.flatnonzero(good & (relative < 1 / limit) & (catalogue < 1 / limit))
        if len(chosen) >= min_stars:
            break
    else:
        raise MeasurementFailure(f"{len(chosen)} stars match reference fluxes; {min_stars} are needed",
                                 n_stars=len(chosen), needed=min_stars)  # fmt: skip
    value = AB_ZERO_POINT - 2.5 * np.log10(stars.flux[match[chosen]] / flux[chosen])
    error = np.hypot(MAG_PER_FRACTION * np.hypot(relative[chosen], catalogue[chosen]), floor)
    magnitude, keep, scatter = _clipped_mean(value, error)
    if keep.sum() < max(min_stars, min_agreement * len(chosen)) or scatter > max_scatter:
        raise MeasurementFailure(
            f"{int(keep.sum())} of {len(chosen)} stars agree on the zero point with a scatter of {scatter:.2f} mag; "
            f"{min_stars} and {100 * min_agreement:.0f} % of them within {max_scatter} mag are needed",
            n_stars=int(keep.sum()), n_matched=len(chosen), scatter=scatter,
        )  # fmt: skip
    # The error of the mean from the scatter that is really there, not from the catalogue's own errors.
    weight = 1 / error[keep] ** 2
    chi2 = (((value[keep] - magnitude) / error[keep]) ** 2).sum() / max(keep.sum() - 1, 1)
    standard = float(np.sqrt(max(chi2, 1) / weight.sum()))
    return ZeroPoint(magnitude, standard, scatter, flux_scale(magnitude), int(keep.sum()),
                     chosen[keep], match[chosen][keep])  # fmt: skip


def _clipped_mean(value: np.ndarray, error: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Return the weighted mean, the values kept and their scatter; the start is the median, the limit is the scatter.

    The start is robust because variable stars and blends lie on one side.
    """
    centre = float(np.median(value))
    keep = np.ones(len(value), bool)
    for _ in range(8):
        spread = 1.4826 * float(np.median(np.abs(value[keep] - centre)))
        limit = 3 * np.hypot(error, min(spread, 0.1))
        fresh = np.abs(value - centre) < limit
        if not fresh.any():
            break
        # A common extra error keeps a few very bright stars from deciding alone.
        extra = np.sqrt(max(spread**2 - float(np.median(error[fresh])) ** 2, 0))
        weight = 1 / (error[fresh] ** 2 + extra**2)
        centre = float(np.average(value[fresh], weights=weight))
        if (fresh == keep).all():
            break
        keep = fresh
    scatter = float(np.sqrt(np.mean((value[keep] - centre) ** 2)))
    return centre, keep, scatter
