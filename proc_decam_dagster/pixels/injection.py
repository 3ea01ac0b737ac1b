"""Synthetic point sources put into an image: with its own PSF at their place, and their own photon noise."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.measurement import calibrate_columns, detect_sources, measure_fluxes
from proc_decam_dagster.pixels.psf_model import AB_ZERO_POINT


def magnitude_to_njy(magnitude: np.ndarray) -> np.ndarray:
    """Return fluxes in nJy of AB magnitudes."""
    return 10 ** ((AB_ZERO_POINT - np.asarray(magnitude, float)) / 2.5)


@dataclass
class Injected:
    """An image with synthetic sources.

    Attributes
    ----------
    exposure : `MaskedImage`
        A copy of the image with the sources added.
    index : `numpy.ndarray`, (m,)
        Which of the sources fell on the image.
    x, y : `numpy.ndarray`, (m,)
        Their pixels.
    usable : `numpy.ndarray`, (m,)
        Fraction of each one's light on good pixels.
    """

    exposure: MaskedImage
    index: np.ndarray
    x: np.ndarray
    y: np.ndarray
    usable: np.ndarray


def positions_on(exposure: MaskedImage, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices and pixels of the sky positions whose light touches an image.

    Positions far from it are left out before the WCS is inverted: a distortion polynomial means nothing there.
    """
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    ny, nx = exposure.shape
    ra0, dec0 = (float(v) for v in exposure.wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
    corner = exposure.wcs.all_pix2world([-0.5], [-0.5], 0)
    reach = 1.2 * _separation(ra0, dec0, corner[0], corner[1])[0] + 0.01
    near = np.flatnonzero(_separation(ra0, dec0, ra, dec) < reach)
    if not len(near):
        return near, np.zeros(0), np.zeros(0)
    x, y = exposure.wcs.all_world2pix(ra[near], dec[near], 0, quiet=True)
    half = exposure.psf.size // 2
    touches = (x > -half) & (y > -half) & (x < nx - 1 + half) & (y < ny - 1 + half)
    return near[touches], x[touches], y[touches]


def _separation(ra0: float, dec0: float, ra, dec) -> np.ndarray:
    """Return angular distances in degrees (haversine)."""
    ra0, dec0, ra, dec = (np.deg2rad(v) for v in (ra0, dec0, ra, dec))
    h = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec0) * np.cos(dec) * np.sin((ra - ra0) / 2) ** 2
    return np.rad2deg(2 * np.arcsin(np.sqrt(np.clip(h, 0, 1))))


def inject(
    exposure: MaskedImage, ra: np.ndarray, dec: np.ndarray, magnitude: np.ndarray, seed: tuple[int, ...]
) -> Injected:
    """Return a copy of a calibrated image with point sources added.

    Parameters
    ----------
    exposure : `MaskedImage`
        In electrons, with WCS, PSF and flux scale.
    ra, dec : `numpy.ndarray`, (n,)
        Positions, ICRS degrees.
    magnitude : `numpy.ndarray`, (n,)
        AB magnitudes.
    seed : `tuple` [`int`, …]
        Seed of the photon noise: the same numbers give the same pixels.

    Notes
    -----
    Each pixel gains a Poisson deviate of the source's expected electrons, and their expectation in the variance.
    The ``INJECTED`` bit is set where a source adds more than a twentieth of the pixel's noise.
    """
    out = exposure.copy()
    index, x, y = positions_on(exposure, ra, dec)
    electrons = magnitude_to_njy(np.asarray(magnitude, float)[index]) / exposure.flux_scale
    ny, nx = exposure.shape
    half = exposure.psf.size // 2
    rng = np.random.default_rng(seed)
    usable = np.zeros(len(index))
    for i, (px, py, flux) in enumerate(zip(x, y, electrons)):
        cx, cy = int(np.floor(px + 0.5)), int(np.floor(py + 0.5))
        rows = slice(max(cy - half, 0), min(cy + half + 1, ny))
        columns = slice(max(cx - half, 0), min(cx + half + 1, nx))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        stamp = exposure.psf.stamp(px, py)
        part = stamp[rows.start - cy + half : rows.stop - cy + half,
                     columns.start - cx + half : columns.stop - cx + half]  # fmt: skip
        expected = np.clip(flux * part, 0, None)
        # Wings that the PSF model puts below zero carry no photons but are part of the star's image.
        light = rng.poisson(expected) + np.minimum(flux * part, 0)
        out.image[rows, columns] += light.astype(np.float32)
        out.variance[rows, columns] += expected.astype(np.float32)
        noise = np.sqrt(np.clip(exposure.variance[rows, columns], 0, None))
        out.mask[rows, columns] |= np.where(expected > 0.05 * noise, planes.INJECTED, 0).astype(out.mask.dtype)
        good = (exposure.mask[rows, columns] & planes.UNUSABLE) == 0
        usable[i] = float((part * good).sum() / stamp.sum())
    return Injected(out, index, x, y, usable)


def measure_injected(exposure: MaskedImage, catalogue: Table, snr: float = 5.0, radius_arcsec: float = 1.0) -> Table:
    """Return the sources of an image with synthetic sources, measured with the PSF and zero point that it has.

    Parameters
    ----------
    exposure : `MaskedImage`
        With synthetic sources; its ``DETECTED`` plane is set.
    catalogue : `astropy.table.Table`
        ``fake_id, x, y, flux`` (nJy) of the synthetic sources.
    snr : `float`
        Detection threshold.
    radius_arcsec : `float`
        A synthetic source is recovered by the nearest source within this radius.

    Returns
    -------
    table : `astropy.table.Table`
        The columns of the source table and ``fake_id`` (-1 for real sources), ``fake_flux`` (nJy), ``fake_distance``
        (pixels), ``fake_ratio`` (recovered over injected flux).
    """
    fwhm = exposure.psf.fwhm(exposure.shape[1] / 2, exposure.shape[0] / 2)
    table = detect_sources(exposure, fwhm, snr)
    measure_fluxes(exposure, table, fwhm)
    calibrate_columns(exposure, table)
    number = np.full(len(table), -1, np.int64)
    flux, distance = np.full(len(table), np.nan), np.full(len(table), np.nan)
    if len(table) and len(catalogue):
        pixel_arcsec = float(np.sqrt(abs(np.linalg.det(exposure.wcs.pixel_scale_matrix)))) * 3600
        away, nearest = cKDTree(np.stack([table["x"], table["y"]], 1)).query(
            np.stack([catalogue["x"], catalogue["y"]], 1), distance_upper_bound=radius_arcsec / pixel_arcsec
        )
        # Of two fakes on one source the nearer one is recovered.
        for fake in np.argsort(-away):
            if np.isfinite(away[fake]):
                row = nearest[fake]
                number[row], flux[row], distance[row] = catalogue["fake_id"][fake], catalogue["flux"][fake], away[fake]
    table["fake_id"], table["fake_flux"], table["fake_distance"] = number, flux, distance
    table["fake_ratio"] = np.asarray(table["psf_flux"]) / flux
    return table
