"""Forced photometry: PSF fluxes at positions known from elsewhere."""

import numpy as np
from astropy.table import Table

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.photometry import psf_fluxes


def positions_on(image: MaskedImage, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixel positions of sky positions (degrees), and which of them are on the image.

    A position a degree or more from the image is left out before the transformation, which does not converge there.
    """
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    ny, nx = image.shape
    ra0, dec0 = (float(v) for v in image.wcs.all_pix2world(nx / 2, ny / 2, 0))
    away = np.hypot(((ra - ra0 + 180) % 360 - 180) * np.cos(np.deg2rad(dec0)), dec - dec0)
    near = away < 1
    x, y = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    if near.any():
        x[near], y[near] = image.wcs.all_world2pix(ra[near], dec[near], 0, quiet=True)
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (y >= -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    return x, y, inside


def forced_fluxes(
    image: MaskedImage, x: np.ndarray, y: np.ndarray, prefix: str = "", error_scale: float = 1.0
) -> Table:
    """Return PSF fluxes at pixel positions, in nJy.

    Parameters
    ----------
    image : `MaskedImage`
        With PSF and `flux_scale`.
    x, y : `numpy.ndarray`
    prefix : `str`, optional
        Put before the columns' names.
    error_scale : `float`, optional
        By what the noise of a PSF flux exceeds that of independent pixels.

    Returns
    -------
    table : `astropy.table.Table`
        ``flux, flux_err`` (nJy), ``chi2``, ``usable`` (fraction of the PSF on good pixels), ``flags`` (mask bits at
        the centre).
    """
    fit = psf_fluxes(image, x, y)
    ny, nx = image.shape
    column, row = (np.floor(np.nan_to_num(np.asarray(v, float), nan=-9) + 0.5).astype(int) for v in (x, y))
    inside = (column >= 0) & (row >= 0) & (column < nx) & (row < ny)
    flags = np.full(len(column), planes.NODATA, np.int32)
    flags[inside] = image.mask[row[inside], column[inside]]
    return Table({
        f"{prefix}flux": fit.flux * image.flux_scale,
        f"{prefix}flux_err": fit.flux_err * image.flux_scale * error_scale,
        f"{prefix}chi2": fit.chi2,
        f"{prefix}usable": fit.usable,
        f"{prefix}flags": flags,
    })  # fmt: skip


def forced_differences(difference: MaskedImage, x: np.ndarray, y: np.ndarray, prefix: str = "") -> Table:
    """Return PSF fluxes at pixel positions of a difference, their errors scaled to the noise measured on blank sky.

    Parameters
    ----------
    difference : `MaskedImage`
        As `proc_decam_dagster.pixels.difference.subtract` returns it: its metadata tell the noise.
    x, y : `numpy.ndarray`
    prefix : `str`, optional

    Returns
    -------
    table : `astropy.table.Table`
        The columns of `forced_fluxes` and ``flux_err_epoch`` (nJy): the error without the template's share, which all
        differences from one template have in common. ``flux_err`` tells whether a flux is different from the
        template's, ``flux_err_epoch`` whether the epochs differ from one another.
    """
    known = difference.metadata
    table = forced_fluxes(difference, x, y, prefix, float(known.get("psf_flux_noise_scale", 1.0)))
    share = 1 / (1 + float(known.get("template_noise_ratio", 0.0)) ** 2)
    at = table.colnames.index(f"{prefix}flux_err") + 1
    table.add_column(table[f"{prefix}flux_err"] * np.sqrt(share), at, name=f"{prefix}flux_err_epoch")
    return table
