"""One detector of one visit, from a detrended image to a calibrated one: the order of the algorithms, and figures."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Table

from proc_decam_dagster.pixels import astrometry, background, zero_point
from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.measurement import (
    calibrate_columns,
    clean,
    detect_sources,
    estimate_fwhm,
    measure_fluxes,
    tie_to_apertures,
)
from proc_decam_dagster.pixels.psf import PsfFit, fit_psf, select_stars
from proc_decam_dagster.pixels.reference import colour_term, has_colour, read

ISOLATION_IN_FWHM = 3.5
"""How far a PSF star's neighbours of 2 % of its light must be, in units of the seeing."""


@dataclass(frozen=True)
class CalibrationSettings:
    """What a survey may want to change.

    Attributes
    ----------
    detection_snr : `float`
        Threshold of the source table.
    background_box : `int`
        Width of a box of the background mesh, pixels.
    psf_degree : `int`
        Degree of the PSF's variation over the detector.
    psf_min_stars, astrometry_min_stars, zero_point_min_stars : `int`
        Fewest stars of each; with fewer the detector fails.
    search_arcsec : `tuple` [`float`, …]
        Pointing errors tried.
    astrometry_degree : `int`
        Highest degree of the correction to the header's distortion.
    astrometry_max_rms_mas : `float`
        Largest scatter that is a match.
    colour_terms : `bool`
        Whether the photometric catalogue is Pan-STARRS1, brought to DECam's own system (see `camera.colour_terms`).
    """

    detection_snr: float = 5.0
    background_box: int = 128
    psf_degree: int = 3
    psf_min_stars: int = 8
    astrometry_min_stars: int = 12
    zero_point_min_stars: int = 5
    search_arcsec: tuple[float, ...] = (40.0, 150.0)
    astrometry_degree: int = 3
    astrometry_max_rms_mas: float = 150.0
    colour_terms: bool = True


@dataclass
class Calibrated:
    """What calibration makes.

    Attributes
    ----------
    exposure : `MaskedImage`
        Background-subtracted, electrons; WCS, PSF and flux scale set.
    sources : `astropy.table.Table`
    summary : `dict`
        Figures of the detector, scalars only: one row of the visit summary.
    background : `numpy.ndarray`, (ny, nx), float32
        The sky that was subtracted, electrons.
    """

    exposure: MaskedImage
    sources: Table
    summary: dict[str, Any]
    background: np.ndarray = field(repr=False)


def _sanitise(exposure: MaskedImage) -> None:
    """Give pixels without a value zero and the ``NODATA`` bit: no algorithm below meets a NaN."""
    lost = ~np.isfinite(exposure.image)
    if lost.any():
        exposure.image[lost] = 0
        exposure.mask[lost] |= planes.NODATA
    if planes.fraction(exposure.mask, planes.BAD | planes.NODATA) > 0.9:
        raise MeasurementFailure("more than 90 % of the pixels are bad", bad_fraction=1.0)


def find_psf(exposure: MaskedImage, sources: Table, fwhm: float, settings: CalibrationSettings) -> PsfFit:
    """Fit the PSF to the table's best stars, set it on the image and note them in ``used_psf``."""
    stars = select_stars(
        np.asarray(sources["x"]), np.asarray(sources["y"]), np.asarray(sources["aperture_e"]),
        np.asarray(sources["aperture_e"] / sources["aperture_e_err"]), np.asarray(sources["half_light_radius"]),
        clean(sources), isolation=ISOLATION_IN_FWHM * fwhm, minimum=settings.psf_min_stars,
    )  # fmt: skip
    fit = fit_psf(
        exposure, np.asarray(sources["x"])[stars], np.asarray(sources["y"])[stars], fwhm,
        degree=settings.psf_degree, minimum=settings.psf_min_stars,
        others=(np.asarray(sources["x"]), np.asarray(sources["y"])),
    )  # fmt: skip
    exposure.psf = fit.model
    used = np.zeros(len(sources), bool)
    used[stars[fit.used]] = True
    sources["used_psf"] = used
    return fit


def calibrate(
    exposure: MaskedImage,
    astrometric: Iterable[Table],
    photometric: Iterable[Table],
    band: str,
    mjd: float,
    settings: CalibrationSettings | None = None,
) -> Calibrated:
    """Calibrate a detrended image: sky, PSF, sources, WCS, zero point.

    Parameters
    ----------
    exposure : `MaskedImage`
        Electrons, with sky, and the header's approximate WCS. Left as it is.
    astrometric, photometric : iterable of `astropy.table.Table`
        Reference shards that overlap the detector, see `reference.read`.
    band : `str`
        Band of the exposure.
    mjd : `float`
        Middle of the exposure, MJD TAI.
    settings : `CalibrationSettings`, optional

    Raises
    ------
    MeasurementFailure
        If any of the calibrations cannot be made or trusted.
    """
    settings = settings or CalibrationSettings()
    if exposure.wcs is None:
        raise MeasurementFailure("the image has no approximate WCS to start from")
    exposure = exposure.copy()
    _sanitise(exposure)
    sky = background.subtract(exposure, settings.background_box)
    fwhm = estimate_fwhm(exposure, sky.found)
    sources = detect_sources(exposure, fwhm, settings.detection_snr)
    fit = find_psf(exposure, sources, fwhm, settings)
    measure_fluxes(exposure, sources, fit.fwhm)
    tie_to_apertures(exposure, sources)
    solution = _solve_astrometry(exposure, sources, fit.fwhm, read(astrometric, "phot_g_mean_flux", mjd), settings)
    term, photometric = colour_term(band), list(photometric)
    corrected = settings.colour_terms and has_colour(photometric, term)
    stars = read(photometric, f"{term.primary}_flux", mjd, term=term if corrected else None)
    exposure.metadata["colour_term"] = f"{term.blue}-{term.red}" if corrected else "none"
    zero = _measure_zero_point(exposure, sources, stars, settings)
    exposure.flux_scale = zero.flux_scale
    calibrate_columns(exposure, sources)
    summary = _summary(exposure, sources, sky, fit, solution, zero, mjd)
    exposure.metadata.update({k: v for k, v in summary.items() if not isinstance(v, float) or np.isfinite(v)})
    return Calibrated(exposure, sources, summary, sky.image)


def _solve_astrometry(exposure, sources, fwhm, stars, settings):
    """Solve the WCS with the clean sources, set it on the image and note the stars in ``used_astrometry``."""
    chosen = np.flatnonzero(clean(sources) & (np.asarray(sources["snr"]) > 12))
    solution = astrometry.solve(
        exposure.wcs, exposure.shape, np.asarray(sources["x"])[chosen], np.asarray(sources["y"])[chosen],
        np.asarray(sources["psf_flux_e"])[chosen], np.asarray(sources["snr"])[chosen], fwhm, stars,
        search_arcsec=settings.search_arcsec, max_degree=settings.astrometry_degree,
        min_matched=settings.astrometry_min_stars, max_rms_mas=settings.astrometry_max_rms_mas,
    )  # fmt: skip
    exposure.wcs = solution.wcs
    used = np.zeros(len(sources), bool)
    used[chosen[solution.source_index]] = True
    sources["used_astrometry"] = used
    return solution


def _measure_zero_point(exposure, sources, stars, settings):
    """Measure the zero point with the clean stars and note them in ``used_zero_point``."""
    chosen = np.flatnonzero(clean(sources) & np.asarray(sources["star"]) & np.isfinite(sources["psf_flux_e"]))
    ra, dec = exposure.wcs.all_pix2world(np.asarray(sources["x"])[chosen], np.asarray(sources["y"])[chosen], 0)
    zero = zero_point.measure(
        ra, dec, np.asarray(sources["psf_flux_e"])[chosen], np.asarray(sources["psf_flux_e_err"])[chosen], stars,
        min_stars=settings.zero_point_min_stars,
    )  # fmt: skip
    used = np.zeros(len(sources), bool)
    used[chosen[zero.source_index]] = True
    sources["used_zero_point"] = used
    return zero


def _summary(exposure, sources, sky, fit, solution, zero, mjd) -> dict[str, Any]:
    """Return the detector's figures: scalars, units in the names."""
    ny, nx = exposure.shape
    corner_x, corner_y = np.array([0, nx, nx, 0]) - 0.5, np.array([0, 0, ny, ny]) - 0.5
    ra, dec = exposure.wcs.all_pix2world(corner_x, corner_y, 0)
    centre = exposure.wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0)
    matrix = exposure.wcs.pixel_scale_matrix
    pixel_arcsec = float(np.sqrt(abs(np.linalg.det(matrix)))) * 3600
    area = exposure.psf.effective_area(nx / 2, ny / 2)
    e1, e2 = exposure.psf.ellipticity(nx / 2, ny / 2)
    good = (exposure.mask & (planes.UNUSABLE | planes.DETECTED)) == 0
    noise = float(np.sqrt(np.median(exposure.variance[good][::13]))) if good.any() else float("nan")
    summary = {
        "seeing_fwhm_px": fit.fwhm,
        "fwhm_arcsec": fit.fwhm * pixel_arcsec,
        "psf_e1": e1,
        "psf_e2": e2,
        "psf_effective_area_px": area,
        "psf_stamp_fraction": fit.stamp_fraction,
        "n_psf_stars": int(fit.used.sum()),
        "zero_point": zero.magnitude,
        "zero_point_err": zero.error,
        "zero_point_scatter": zero.scatter,
        "colour_term": exposure.metadata["colour_term"],
        "n_zero_point_stars": zero.n_stars,
        "flux_scale": zero.flux_scale,
        "sky_e": sky.level,
        "sky_rms_e": sky.rms,
        "expected_rms_e": noise,
        "depth_5sigma_mag": zero.magnitude - 2.5 * float(np.log10(5 * sky.rms * np.sqrt(area))),
        "astrometric_rms_mas": solution.rms_mas,
        "astrometric_bright_rms_mas": solution.bright_rms_mas,
        "astrometric_degree": solution.degree,
        "n_matched": solution.n_matched,
        "pointing_offset_ra_arcsec": solution.offset_arcsec[0],
        "pointing_offset_dec_arcsec": solution.offset_arcsec[1],
        "pixel_scale_arcsec": pixel_arcsec,
        "n_sources": len(sources),
        "n_stars": int(np.sum(sources["star"])),
        "masked_fraction": planes.fraction(exposure.mask, planes.UNUSABLE),
        "mjd_mid": float(mjd),
        "ra": float(centre[0]),
        "dec": float(centre[1]),
    }
    for i in range(4):
        summary[f"ra_corner_{i}"], summary[f"dec_corner_{i}"] = float(ra[i]), float(dec[i])
    return summary
