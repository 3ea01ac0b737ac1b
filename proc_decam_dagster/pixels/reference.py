"""Reference catalogues as arrays: LSST-format shards joined, moved to the exposure's epoch."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from proc_decam_dagster.pixels.failure import MeasurementFailure

DAYS_PER_YEAR = 365.25

FASTEST = np.deg2rad(20 / 3600)
"""Largest believable proper motion, rad/year (Barnard's star moves half as fast).

A motion is applied only where it is below this and its epoch is an MJD: in Pan-STARRS1 shards the same columns hold
arcsec/year, mostly noise, and an epoch in Unix seconds.
"""

REFERENCE_FLUX = {
    "u": "g_flux", "g": "g_flux", "r": "r_flux", "i": "i_flux", "z": "z_flux", "y": "y_flux", "Y": "y_flux",
    "VR": "r_flux", "N419": "g_flux", "N540": "g_flux", "N662": "r_flux", "N673": "r_flux",
    "N708": "i_flux", "N964": "z_flux",
}  # fmt: skip
"""Pan-STARRS1 flux column nearest to each DECam band: it has neither u nor VR nor DECam's narrow bands.

Magnitudes are taken over as they are, without a colour term: stars of all colours average out.
"""


@dataclass(frozen=True)
class ReferenceStars:
    """Reference stars of a part of the sky.

    Attributes
    ----------
    ra, dec : `numpy.ndarray`, (n,)
        ICRS positions at the wanted epoch, degrees.
    position_error_mas : `numpy.ndarray`, (n,)
    flux, flux_err : `numpy.ndarray`, (n,)
        Flux in one band, nJy; NaN where unknown.
    """

    ra: np.ndarray
    dec: np.ndarray
    position_error_mas: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray

    def __len__(self) -> int:
        return len(self.ra)

    def take(self, chosen: np.ndarray) -> "ReferenceStars":
        """Return some of the stars, by index or boolean array."""
        return ReferenceStars(
            self.ra[chosen], self.dec[chosen], self.position_error_mas[chosen],
            self.flux[chosen], self.flux_err[chosen],
        )  # fmt: skip


def flux_column(band: str, catalogue: Table | None = None) -> str:
    """Return the reference flux column of a DECam band.

    Raises
    ------
    MeasurementFailure
        If the band or the catalogue's column is unknown.
    """
    name = REFERENCE_FLUX.get(band)
    if name is None or (catalogue is not None and name not in catalogue.colnames):
        known = ", ".join(sorted(REFERENCE_FLUX))
        raise MeasurementFailure(f"no reference flux for band {band!r} (known: {known})", n_reference=0)
    return name


def _column(table: Table, *names: str) -> np.ndarray | None:
    """Return the first of some columns that a table has, as floats; masked values are NaN."""
    for name in names:
        if name in table.colnames:
            column = table[name]
            return np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
    return None


def read(shards: Iterable[Table], flux: str, mjd: float, default_error_mas: float = 20.0) -> ReferenceStars:
    """Join shards and move their stars to an epoch.

    Parameters
    ----------
    shards : iterable of `astropy.table.Table`
        Columns ``coord_ra, coord_dec`` (rad); ``pm_ra`` (dra/dt · cos dec), ``pm_dec`` (rad/year), ``epoch`` (MJD,
        TAI) where known; fluxes in nJy.
    flux : `str`
        Flux column; its error is ``<flux>Err``.
    mjd : `float`
        Wanted epoch, MJD TAI.
    default_error_mas : `float`
        Position error where the catalogue has none.

    Raises
    ------
    MeasurementFailure
        If there are no shards, or they are empty.
    """
    parts = []
    for table in shards:
        if not len(table):
            continue
        ra, dec = _column(table, "coord_ra"), _column(table, "coord_dec")
        pm_ra, pm_dec, epoch = _column(table, "pm_ra"), _column(table, "pm_dec"), _column(table, "epoch")
        if pm_ra is not None and pm_dec is not None and epoch is not None:
            moving = (np.abs(pm_ra) < FASTEST) & (np.abs(pm_dec) < FASTEST) & (epoch > 15_000) & (epoch < 100_000)
            years = np.where(moving, mjd - epoch, 0) / DAYS_PER_YEAR
            ra = ra + np.where(moving, pm_ra, 0) * years / np.cos(dec)
            dec = dec + np.where(moving, pm_dec, 0) * years
        error = _column(table, "coord_raErr", "coord_ra_err")
        error = np.full(len(ra), np.nan) if error is None else np.rad2deg(error) * 3.6e6
        error = np.where(np.isfinite(error) & (error > 0), error, default_error_mas)
        value = _column(table, flux)
        uncertainty = _column(table, f"{flux}Err")
        value = np.full(len(ra), np.nan) if value is None else value
        uncertainty = np.full(len(ra), np.nan) if uncertainty is None else uncertainty
        parts.append((np.rad2deg(ra), np.rad2deg(dec), error, value, uncertainty))
    if not parts:
        raise MeasurementFailure("the reference catalogue has no star here", n_reference=0)
    return ReferenceStars(*(np.concatenate(column) for column in zip(*parts)))
