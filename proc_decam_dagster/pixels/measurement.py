"""The source table of an image: detection, positions, shapes, fluxes, flags, and their calibrated columns."""

import numpy as np
import sep
from astropy.table import Table

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.apertures import aperture_fluxes, half_light_radii
from proc_decam_dagster.pixels.centroids import windowed
from proc_decam_dagster.pixels.detection import Detections, detect
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import PsfModel, monomials

FLAG_PLANES = {
    "flag_saturated": planes.SAT,
    "flag_bad": planes.BAD,
    "flag_cosmic_ray": planes.CR,
    "flag_edge": planes.EDGE | planes.NODATA,
    "flag_interpolated": planes.INTERP,
    "flag_suspect": planes.SUSPECT,
    "flag_crosstalk": planes.CROSSTALK,
    "flag_injected": planes.INJECTED,
}
"""Boolean columns, and the mask bits that set them anywhere in a source's footprint."""

APERTURE_IN_FWHM = 1.75
"""Radius of the aperture of ``ap_flux``, in units of the seeing."""


def estimate_fwhm(exposure: MaskedImage, found: Detections, default: float = 4.0) -> float:
    """Return the seeing in pixels from the half-light radii of bright, round, unsaturated sources."""
    sources = found.sources
    snr = sources["flux"] / np.maximum(sources["thresh"] * np.sqrt(sources["npix"]), 1e-6)
    chosen = np.flatnonzero((sources["flag"] == 0) & (sources["b"] > 0.6 * sources["a"]) & (sources["npix"] > 15))
    spoilt = (_footprint_bits(exposure.mask, found) & (planes.SAT | planes.CR | planes.BAD)) != 0
    chosen = chosen[~spoilt[chosen]]
    if len(chosen) < 5:
        return default
    chosen = chosen[np.argsort(-snr[chosen])][:200]
    x, y = sources["x"][chosen], sources["y"][chosen]
    # A Moffat profile of β = 3 has FWHM = 1.79 half-light radii.
    widths = 1.79 * half_light_radii(exposure.image, x, y, 4 * default)
    widths = np.sort(widths[np.isfinite(widths)])
    return float(np.clip(np.median(widths[: max(5, len(widths) // 2)]), 1.8, 15)) if len(widths) >= 5 else default


@jit
def _gather(mask, segmentation, bits):  # pragma: no cover - compiled
    ny, nx = mask.shape
    for y in range(ny):
        for x in range(nx):
            if mask[y, x] != 0 and segmentation[y, x] > 0:
                bits[segmentation[y, x] - 1] |= mask[y, x]


def _footprint_bits(mask: np.ndarray, found: Detections) -> np.ndarray:
    """Return, for each source, the mask bits that any pixel of its footprint has, (n,) int32."""
    bits = np.zeros(len(found.sources), np.int32)
    _gather(mask, found.segmentation, bits)
    return bits


@jit
def _prepare(image_mask, variance, level, unusable, holes, noise, excluded):  # pragma: no cover - compiled
    """Write the sky's noise (see `_sky_level`) and which pixels are left out; return nothing."""
    bad, interpolated = holes
    ny, nx = image_mask.shape
    low, high = np.float32(0.25) * level, np.float32(1.5) * level
    for y in range(ny):
        for x in range(nx):
            bits, value = image_mask[y, x], variance[y, x]
            known = (value > 0) & (value < np.float32(np.inf))
            noise[y, x] = np.sqrt(min(max(value, low), high) if known else high)
            excluded[y, x] = ((bits & unusable) != 0) | ((bits & (bad | interpolated)) == bad)


def detect_sources(exposure: MaskedImage, fwhm: float, snr: float = 5.0) -> Table:
    """Find the sources of a background-subtracted image and measure what needs no PSF.

    Parameters
    ----------
    exposure : `MaskedImage`
        Its mask's ``DETECTED`` plane is set.
    fwhm : `float`
        Seeing, pixels.
    snr : `float`
        Detection threshold, see `detection.detect`.

    Returns
    -------
    table : `astropy.table.Table`
        ``x, y`` (pixels), ``half_light_radius, a, b`` (pixels), ``theta`` (rad), ``n_pixels``, ``aperture_e``,
        ``aperture_e_err`` (raw aperture flux in the image's unit), ``peak``, and the flags.
    """
    noise, excluded = np.empty(exposure.shape, np.float32), np.empty(exposure.shape, bool)
    _prepare(
        exposure.mask, exposure.variance, np.float32(_sky_level(exposure.variance, exposure.mask)),
        planes.NODATA | planes.EDGE, (planes.BAD, planes.INTERP), noise, excluded,
    )  # fmt: skip
    found = detect(exposure.image, noise, excluded, fwhm, snr)
    exposure.mask &= ~planes.DETECTED
    exposure.mask |= np.where(found.segmentation > 0, np.int32(planes.DETECTED), np.int32(0))
    sources = found.sources
    x, y, failed = windowed(exposure.image, excluded, sources["x"], sources["y"], fwhm)
    radius = APERTURE_IN_FWHM * fwhm
    flux, error, _ = aperture_fluxes(exposure, x, y, radius)
    half_light = half_light_radii(exposure.image, x, y, 3 * fwhm)
    table = Table(
        {
            "x": x, "y": y, "half_light_radius": half_light, "a": sources["a"], "b": sources["b"],
            "theta": sources["theta"], "n_pixels": sources["npix"].astype(np.int32), "peak": sources["peak"],
            "aperture_e": flux, "aperture_e_err": error,
            "flag_blended": (sources["flag"] & (sep.OBJ_MERGED | sep.OBJ_TRUNC)) != 0,
            "flag_centroid": failed,
        }
    )  # fmt: skip
    footprints = _footprint_bits(exposure.mask, found)
    for name, bits in FLAG_PLANES.items():
        table[name] = (footprints & bits) != 0
    return table


def _sky_level(variance: np.ndarray, mask: np.ndarray) -> float:
    """Return the variance of the sky.

    Detection compares with a pixel's noise, which is kept within 0.25 and 1.5 times this variance: with a source's own
    photon noise in it, bright sources would be cut short.
    """
    for step in (3, 1):
        sky = variance[::step, ::step][(mask[::step, ::step] & planes.UNUSABLE) == 0]
        sky = sky[np.isfinite(sky) & (sky > 0)]
        if sky.size:
            return float(np.median(sky))
    return 1.0


def clean(table: Table) -> np.ndarray:
    """Return which sources have nothing against them: no bad pixel, not blended, a good centroid."""
    bad = np.zeros(len(table), bool)
    for name in ("saturated", "bad", "cosmic_ray", "edge", "blended", "centroid", "suspect"):
        bad |= np.asarray(table[f"flag_{name}"])
    return ~bad


def aperture_fraction(psf: PsfModel, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Return the fraction of a star's light within a circle (pixels) around each position, from the PSF there."""
    half, (ny, nx) = float(psf.size // 2), psf.shape
    terms = [
        sep.sum_circle(np.ascontiguousarray(term, float), [half], [half], min(radius, half), subpix=5)[0][0]
        for term in psf.coefficients
    ]
    return np.asarray(terms) @ monomials(np.asarray(x, float) / nx - 0.5, np.asarray(y, float) / ny - 0.5, psf.degree)


def measure_fluxes(exposure: MaskedImage, table: Table, fwhm: float) -> None:
    """Add PSF fluxes, total aperture fluxes and the star flag to a source table, in place.

    New columns: ``psf_flux_e, psf_flux_e_err, ap_flux_e, ap_flux_e_err`` (the image's unit; both are the total flux of
    a star), ``snr, chi2, usable, extendedness`` (fraction of light outside the PSF), ``star``.
    """
    fitted = psf_fluxes(exposure, table["x"], table["y"])
    radius = APERTURE_IN_FWHM * fwhm
    fraction = aperture_fraction(exposure.psf, table["x"], table["y"], radius)
    table["aperture_e"], table["aperture_e_err"], _ = aperture_fluxes(exposure, table["x"], table["y"], radius)
    table["psf_flux_e"], table["psf_flux_e_err"] = fitted.flux, fitted.flux_err
    table["chi2"], table["usable"] = fitted.chi2, fitted.usable
    table["ap_flux_e"] = table["aperture_e"] / fraction
    table["ap_flux_e_err"] = table["aperture_e_err"] / fraction
    with np.errstate(all="ignore"):
        table["snr"] = fitted.flux / fitted.flux_err
        excess = 1 - fitted.flux / np.asarray(table["ap_flux_e"])
        error = np.abs(np.asarray(table["ap_flux_e_err"]) / np.asarray(table["ap_flux_e"]))
    table["extendedness"] = excess
    table["star"] = np.isfinite(excess) & (np.abs(excess) < 0.05 + 2 * np.minimum(error, 0.5))


def tie_to_apertures(exposure: MaskedImage, table: Table, min_snr: float = 100.0, min_stars: int = 20) -> float:
    """Scale the PSF, in place, and its fluxes so that bright stars have the same flux in PSF and aperture.

    A model a little too broad or too narrow gives all stars a wrong flux; an aperture hardly sees its shape. With
    fewer than ``min_stars`` stars of that signal-to-noise ratio nothing is changed.

    Returns
    -------
    ratio : `float`
        By what PSF fluxes exceeded aperture fluxes.
    """
    snr = np.asarray(table["ap_flux_e"] / table["ap_flux_e_err"])
    bright = clean(table) & np.asarray(table["star"]) & (snr > min_snr) & np.isfinite(table["psf_flux_e"])
    if bright.sum() < min_stars:
        return 1.0
    ratio = float(np.median(np.asarray(table["psf_flux_e"])[bright] / np.asarray(table["ap_flux_e"])[bright]))
    psf = exposure.psf
    exposure.psf = PsfModel((psf.coefficients * ratio).astype(np.float32), psf.degree, psf.shape)
    for name in ("psf_flux_e", "psf_flux_e_err"):
        table[name] = np.asarray(table[name]) / ratio
    return ratio


def calibrate_columns(exposure: MaskedImage, table: Table) -> None:
    """Add ``ra, dec`` (degrees) and fluxes in nJy to a source table, in place, from the image's WCS and flux scale."""
    if len(table):
        ra, dec = exposure.wcs.all_pix2world(np.asarray(table["x"]), np.asarray(table["y"]), 0)
    else:
        ra = dec = np.zeros(0)
    table["ra"], table["dec"] = np.asarray(ra, float), np.asarray(dec, float)
    for name in ("psf_flux", "psf_flux_err", "ap_flux", "ap_flux_err"):
        electrons = name.replace("_flux", "_flux_e")
        table[name] = np.asarray(table[electrons]) * exposure.flux_scale
