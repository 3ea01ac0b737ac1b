"""Objects of coadds: sources of each band joined by position, with PSF fluxes in every band."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import sep
from astropy.table import Table
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.association import chord, unit_vectors
from proc_decam_dagster.pixels.forced import forced_fluxes, positions_on
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.measurement import detect_sources, measure_fluxes

BACKGROUND_BOX = 128


def background_subtracted(coadd: MaskedImage) -> MaskedImage:
    """Return a coadd without NaN and without what is left of sky: minimum coadds lie below zero."""
    bad = ((coadd.mask & planes.UNUSABLE) != 0) | ~np.isfinite(coadd.image)
    filled = np.where(bad, np.float32(0), coadd.image)
    image = coadd.copy()
    if not bad.all():
        background = sep.Background(filled, mask=bad, bw=BACKGROUND_BOX, bh=BACKGROUND_BOX, fw=3, fh=3)
        filled = np.where(bad, np.float32(0), filled - background.back()).astype(np.float32)
    image.image = filled
    image.mask[bad & ((image.mask & planes.UNUSABLE) == 0)] |= planes.NODATA
    return image


def detect_on_coadd(coadd: MaskedImage, threshold: float = 5.0) -> Table:
    """Return the sources of a coadd.

    Parameters
    ----------
    coadd : `MaskedImage`
        In nJy, with PSF.
    threshold : `float`
        Significance of a detection.

    Returns
    -------
    sources : `astropy.table.Table`
        ``x, y, ra, dec``, shapes, flags, ``psf_flux, psf_flux_err, ap_flux, ap_flux_err`` (nJy), ``snr``,
        ``extendedness``, ``star``.
    """
    image = background_subtracted(coadd)
    ny, nx = image.shape
    x0, y0, x1, y1 = planes.extent(np.isfinite(image.image))
    fwhm = image.psf.fwhm((x0 + x1) / 2, (y0 + y1) / 2)
    table = detect_sources(image, fwhm, threshold)
    measure_fluxes(image, table, fwhm)
    for name in ("psf_flux", "ap_flux"):
        for suffix in ("", "_err"):
            table[name + suffix] = np.asarray(table.columns[f"{name}_e{suffix}"], float) * image.flux_scale
            table.remove_column(f"{name}_e{suffix}")
    table.remove_columns(["aperture_e", "aperture_e_err"])
    count = len(table)
    ra, dec = image.wcs.all_pix2world(table["x"], table["y"], 0) if count else (np.zeros(0), np.zeros(0))
    table["ra"], table["dec"] = ra, dec
    return table


def join_bands(sources: Mapping[str, Table], radius_arcsec: float) -> Table:
    """Return one row for each object of any band: the brightest detection gives the position.

    Returns
    -------
    objects : `astropy.table.Table`
        ``ra, dec, ref_band, extendedness``.
    """
    bands = sorted(sources)
    columns = {name: np.concatenate([np.asarray(sources[b][name], float) for b in bands])
               for name in ("ra", "dec", "snr", "extendedness")}  # fmt: skip
    band = np.concatenate([np.full(len(sources[b]), b, "U8") for b in bands])
    vectors = unit_vectors(columns["ra"], columns["dec"])
    taken = np.zeros(len(band), bool)
    chosen = []
    tree = cKDTree(vectors) if len(vectors) else None
    for i in np.argsort(-np.nan_to_num(columns["snr"]), kind="stable"):
        if taken[i]:
            continue
        chosen.append(i)
        near = [k for k in tree.query_ball_point(vectors[i], chord(radius_arcsec)) if band[k] != band[i]]
        taken[[i, *near]] = True
    chosen = np.array(chosen, int)
    return Table({
        "ra": columns["ra"][chosen], "dec": columns["dec"][chosen], "ref_band": band[chosen],
        "extendedness": columns["extendedness"][chosen],
    })  # fmt: skip


def measure_objects(sources: Mapping[str, Table], coadds: Mapping[str, Any], radius_arcsec: float = 0.5) -> Table:
    """Return the objects of all bands with PSF fluxes in every band.

    Parameters
    ----------
    sources : mapping [`str`, `astropy.table.Table`]
        By band: results of `detect_on_coadd`.
    coadds : mapping [`str`, handle]
        By band: objects whose ``get()`` returns the coadd; read one at a time.
    radius_arcsec : `float`
        Sources of two bands this near are one object.

    Returns
    -------
    objects : `astropy.table.Table`
        ``ra, dec, ref_band, extendedness`` and for each band b ``b_flux, b_flux_err`` (nJy), ``b_chi2, b_usable,
        b_flags``.
    """
    table = join_bands(sources, radius_arcsec)
    for band in sorted(coadds):
        image = background_subtracted(coadds[band].get())
        x, y, _ = positions_on(image, table["ra"], table["dec"])
        fluxes = forced_fluxes(image, x, y, f"{band}_")
        for name in fluxes.colnames:
            table[name] = fluxes[name]
    return table
