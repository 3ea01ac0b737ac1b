"""Synthetic skies for the tests of warps, coadds and differences."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.wcs import WCS

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.psf_model import PsfModel

SCALE = 0.263
CENTRE = (150.0, 2.0)


def tan_wcs(shape, ra=CENTRE[0], dec=CENTRE[1], rotation=0.0, scale=SCALE, flip=True) -> WCS:
    """Return a TAN WCS whose centre pixel is (ra, dec); East is left if ``flip``."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [shape[1] / 2 + 0.5, shape[0] / 2 + 0.5]
    c, s = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    wcs.wcs.cd = np.array([[c, -s], [s, c]]) @ np.diag([-scale / 3600 if flip else scale / 3600, scale / 3600])
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def moffat(size, fwhm, dx=0.0, dy=0.0, beta=3.5, q=1.0) -> np.ndarray:
    """Return a Moffat profile of unit total flux (to infinity), sampled at pixel centres."""
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    radius2 = ((x - dx) ** 2 * q + (y - dy) ** 2 / q) / alpha**2
    return (beta - 1) / (np.pi * alpha**2) * (1 + radius2) ** -beta


def add_stars(image, x, y, flux, fwhm, size=61, **kwargs) -> None:
    """Add Moffat stars to an array in place."""
    half = size // 2
    for xs, ys, f in zip(np.atleast_1d(x), np.atleast_1d(y), np.atleast_1d(flux)):
        x0, y0 = int(np.floor(xs + 0.5)), int(np.floor(ys + 0.5))
        stamp = f * moffat(size, fwhm, xs - x0, ys - y0, **kwargs)
        a, b = max(0, half - y0), max(0, half - x0)
        c, d = min(size, image.shape[0] - y0 + half), min(size, image.shape[1] - x0 + half)
        if c > a and d > b:
            image[y0 - half + a : y0 - half + c, x0 - half + b : x0 - half + d] += stamp[a:c, b:d]


def psf_model(shape, fwhm, size=31, **kwargs) -> PsfModel:
    """Return a constant Moffat PSF model; its sum is the light within the stamp."""
    return PsfModel(moffat(size, fwhm, **kwargs)[None], 0, shape)


def star_field(shape, n, seed=0, faint=2e3, bright=3e5, centre=CENTRE, margin=1.1):
    """Return sky positions and fluxes (nJy) of stars, more faint than bright, over a field around its centre."""
    rng = np.random.default_rng(seed)
    wcs = tan_wcs(shape, *centre)
    ny, nx = shape
    x = nx * (0.5 + margin * rng.uniform(-0.5, 0.5, n))
    y = ny * (0.5 + margin * rng.uniform(-0.5, 0.5, n))
    flux = faint * (1 - rng.uniform(0, 1, n) * (1 - (bright / faint) ** -0.8)) ** (-1 / 0.8)
    ra, dec = wcs.all_pix2world(x, y, 0)
    return ra, dec, flux


def observe(shape, wcs, ra, dec, flux, *, fwhm, sky=600.0, flux_scale=4.0, seed=1, noise=True, q=1.0) -> MaskedImage:
    """Return an exposure in electrons of stars with fluxes in nJy; its noise is that of sky and stars."""
    rng = np.random.default_rng(seed)
    clean = np.zeros(shape)
    x, y = wcs.all_world2pix(ra, dec, 0)
    add_stars(clean, x, y, np.asarray(flux) / flux_scale, fwhm, q=q)
    variance = clean + sky
    image = clean + (rng.normal(0, 1, shape) * np.sqrt(variance) if noise else 0)
    return MaskedImage(
        image.astype(np.float32), variance.astype(np.float32), np.zeros(shape, np.int32), wcs,
        psf_model(shape, fwhm, q=q), flux_scale, {"seeing_fwhm_px": fwhm},
    )  # fmt: skip


@pytest.fixture(scope="session")
def sky():
    """The functions of this module: ``tan_wcs, moffat, add_stars, psf_model, star_field, observe``."""
    return SimpleNamespace(
        tan_wcs=tan_wcs, moffat=moffat, add_stars=add_stars, psf_model=psf_model, star_field=star_field,
        observe=observe, scale=SCALE, centre=CENTRE,
    )  # fmt: skip
