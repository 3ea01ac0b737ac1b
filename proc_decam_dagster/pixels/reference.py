"""Reference catalogues as arrays: LSST-format shards joined, moved to the exposure's epoch."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from proc_decam_dagster.camera.colour_terms import COLOUR_TERMS, ColourTerm
from proc_decam_dagster.pixels.failure import MeasurementFailure

DAYS_PER_YEAR = 365.25

FASTEST = np.deg2rad(20 / 3600)
"""Largest believable proper motion, rad/year (Barnard's star moves half as fast).

A motion is applied only where it is below this and its epoch is an MJD: in Pan-STARRS1 shards the same columns hold
arcsec/year, mostly noise, and an epoch in Unix seconds.
"""

NEAREST = np.deg2rad(1 / 3600)
"""Larger parallaxes (rad) than the nearest star's are no parallaxes; those below five times their error only noise."""


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


def parallax_factors(ra: np.ndarray, dec: np.ndarray, mjd: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what a parallax of 1 moves stars (rad) by, in RA times cos Dec and in Dec, at an MJD.

    The Earth's barycentric position is that of its mean orbit, good to 1 % of a parallax.
    """
    # Low-precision Sun of the Astronomical Almanac: longitude from mean anomaly, distance in au.
    n = mjd - 51544.5
    anomaly = np.deg2rad(357.528 + 0.9856003 * n)
    longitude = np.deg2rad(280.460 + 0.9856474 * n + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    tilt = np.deg2rad(23.439)
    x = -distance * np.cos(longitude)
    y, z = -distance * np.sin(longitude) * np.cos(tilt), -distance * np.sin(longitude) * np.sin(tilt)
    along_ra = x * np.sin(ra) - y * np.cos(ra)
    along_dec = (x * np.cos(ra) + y * np.sin(ra)) * np.sin(dec) - z * np.cos(dec)
    return along_ra, along_dec


def colour_term(band: str) -> ColourTerm:
    """Return what stands for a DECam band in the reference catalogue.

    Raises
    ------
    MeasurementFailure
        If the band is unknown.
    """
    if band not in COLOUR_TERMS:
        known = ", ".join(sorted(COLOUR_TERMS))
        raise MeasurementFailure(f"no reference flux for band {band!r} (known: {known})", n_reference=0)
    return COLOUR_TERMS[band]


def _column(table: Table, *names: str) -> np.ndarray | None:
    """Return the first of some columns that a table has, as floats; masked values are NaN."""
    for name in names:
        if name in table.colnames:
            column = table[name]
            return np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
    return None


def has_colour(shards: Iterable[Table], term: ColourTerm) -> bool:
    """Return whether a colour term is known and every shard has the fluxes it needs."""
    needed = {f"{term.blue}_flux", f"{term.red}_flux"}
    return bool(term.coefficients) and all(needed <= set(table.colnames) for table in shards)


def _natural(table: Table, term: ColourTerm, value: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return fluxes and errors in DECam's own system; NaN where the colour is unknown or out of the term's range."""
    blue, red = _column(table, f"{term.blue}_flux"), _column(table, f"{term.red}_flux")
    with np.errstate(all="ignore"):
        colour = -2.5 * np.log10(blue / red)
        valid = (colour > term.valid[0]) & (colour < term.valid[1])
        relative = [_column(table, f"{b}_fluxErr") for b in (term.blue, term.red)]
        if all(e is not None for e in relative):
            spread = np.hypot(relative[0] / blue, relative[1] / red) * np.abs(term.slope(colour)) * value
            error = np.hypot(error, np.nan_to_num(spread))
    scale = np.where(valid, 10 ** (-0.4 * term.offset(np.nan_to_num(colour))), np.nan)
    return value * scale, error * scale


def read(
    shards: Iterable[Table], flux: str, mjd: float, default_error_mas: float = 20.0, term: ColourTerm | None = None
) -> ReferenceStars:
    """Join shards and move their stars to an epoch.

    Parameters
    ----------
    shards : iterable of `astropy.table.Table`
        Columns ``coord_ra, coord_dec`` (rad); ``pm_ra`` (dra/dt · cos dec), ``pm_dec`` (rad/year), ``epoch`` (MJD,
        TAI), ``parallax`` (rad) where known; fluxes in nJy.
    flux : `str`
        Flux column; its error is ``<flux>Err``.
    mjd : `float`
        Wanted epoch, MJD TAI.
    default_error_mas : `float`
        Position error where the catalogue has none.
    term : `ColourTerm`, optional
        Applied to the fluxes.

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
            parallax = _column(table, "parallax")
            if parallax is not None:
                error = _column(table, "parallaxErr")
                measured = (parallax > 5 * (0 if error is None else error)) & (parallax < NEAREST)
                parallax = np.where(moving & measured, parallax, 0)
                factor_ra, factor_dec = parallax_factors(ra, dec, mjd)
                ra, dec = ra + parallax * factor_ra / np.cos(dec), dec + parallax * factor_dec
        error = _column(table, "coord_raErr", "coord_ra_err")
        error = np.full(len(ra), np.nan) if error is None else np.rad2deg(error) * 3.6e6
        error = np.where(np.isfinite(error) & (error > 0), error, default_error_mas)
        value = _column(table, flux)
        uncertainty = _column(table, f"{flux}Err")
        value = np.full(len(ra), np.nan) if value is None else value
        uncertainty = np.full(len(ra), np.nan) if uncertainty is None else uncertainty
        if term is not None:
            value, uncertainty = _natural(table, term, value, uncertainty)
        parts.append((np.rad2deg(ra), np.rad2deg(dec), error, value, uncertainty))
    if not parts:
        raise MeasurementFailure("the reference catalogue has no star here", n_reference=0)
    return ReferenceStars(*(np.concatenate(column) for column in zip(*parts)))
