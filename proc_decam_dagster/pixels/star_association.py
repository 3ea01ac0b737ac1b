"""Isolated stars seen in several visits, and how well their measurements repeat."""

from collections.abc import Iterable

import numpy as np
from astropy.table import Table, vstack
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels.association import chord, unit_vectors
from proc_decam_dagster.pixels.measurement import clean

MAG_PER_FRACTION = 2.5 / np.log(10)


def good_stars(sources: Table, min_snr: float = 15.0) -> Table:
    """Return the stars of a source table that are fit for comparison between visits."""
    chosen = clean(sources) & np.asarray(sources["star"], bool) & (np.asarray(sources["snr"]) > min_snr)
    return sources[chosen]


def associate(
    visits: Iterable[Table], *, radius_arcsec: float = 1.0, isolation_arcsec: float = 3.0, min_snr: float = 15.0
) -> Table:
    """Return one row for each star and band, from the source tables of visits.

    Parameters
    ----------
    visits : iterable of `astropy.table.Table`
        Columns of the source table, ``visit`` and ``band``.
    radius_arcsec : `float`
        Sources within it are the same star.
    isolation_arcsec : `float`
        A star with another within it is left out.
    min_snr : `float`
        Faintest star that is used.

    Returns
    -------
    stars : `astropy.table.Table`
        ``star_id, band, ra, dec`` (degrees), ``n_visits, flux`` (weighted mean, nJy), ``flux_err, scatter_mmag``
        (of single measurements), ``position_scatter_mas`` (per axis; NaN for one visit).
    """
    tables = [good_stars(table, min_snr) for table in visits]
    tables = [table["ra", "dec", "psf_flux", "psf_flux_err", "visit", "band"] for table in tables if len(table)]
    if not tables:
        return _empty()
    everything = vstack(tables, metadata_conflicts="silent")
    label = np.full(len(everything), -1)
    centres = np.zeros((0, 3))
    start = 0
    for table in tables:
        points = unit_vectors(table["ra"], table["dec"])
        nearest = np.full(len(points), -1)
        if len(centres):
            distance, index = cKDTree(centres).query(points, distance_upper_bound=chord(radius_arcsec))
            nearest = np.where(np.isfinite(distance), index, -1)
        fresh = np.flatnonzero(nearest < 0)
        nearest[fresh] = len(centres) + np.arange(len(fresh))
        centres = np.concatenate([centres, points[fresh]])
        label[start : start + len(points)] = nearest
        start += len(points)
    crowd = cKDTree(centres).query_ball_point(centres, chord(isolation_arcsec), return_length=True)
    keep = crowd[label] == 1
    return _statistics(everything[keep], label[keep]) if keep.any() else _empty()


def _empty() -> Table:
    names = ("star_id", "band", "ra", "dec", "n_visits", "flux", "flux_err", "scatter_mmag", "position_scatter_mas")
    types = (np.int64, "U8", float, float, np.int32, float, float, float, float)
    return Table(names=names, dtype=types)


def _statistics(sources: Table, label: np.ndarray) -> Table:
    """Return the table of `associate` from sources and the star that each belongs to."""
    bands = np.asarray(sources["band"]).astype(str)
    names, band_index = np.unique(bands, return_inverse=True)
    groups, row = np.unique(label * len(names) + band_index, return_inverse=True)
    count = np.bincount(row)
    flux, error = np.asarray(sources["psf_flux"], float), np.asarray(sources["psf_flux_err"], float)
    weight = 1 / error**2
    mean = np.bincount(row, weight * flux) / np.bincount(row, weight)
    scatter = np.sqrt(np.bincount(row, ((flux - mean[row]) / mean[row]) ** 2) / np.maximum(count - 1, 1))
    ra, dec = np.asarray(sources["ra"], float), np.asarray(sources["dec"], float)
    # Means of offsets from one source of the group: no trouble where right ascension jumps from 360 to 0.
    first = np.full(len(groups), -1)
    first[row[::-1]] = np.arange(len(row))[::-1]
    dra = (ra - ra[first][row] + 180) % 360 - 180
    mean_ra = (ra[first] + np.bincount(row, dra) / count) % 360
    mean_dec = np.bincount(row, dec) / count
    east = (dra - (np.bincount(row, dra) / count)[row]) * np.cos(np.deg2rad(dec))
    spread = east**2 + (dec - mean_dec[row]) ** 2
    position = np.sqrt(np.bincount(row, spread) / 2 / np.maximum(count - 1, 1)) * 3.6e6
    alone = count < 2
    return Table(
        {
            "star_id": _star_id(mean_ra, mean_dec),
            "band": names[groups % len(names)].astype("U8"),
            "ra": mean_ra,
            "dec": mean_dec,
            "n_visits": count.astype(np.int32),
            "flux": mean,
            "flux_err": 1 / np.sqrt(np.bincount(row, weight)),
            "scatter_mmag": np.where(alone, np.nan, scatter * MAG_PER_FRACTION * 1e3),
            "position_scatter_mas": np.where(alone, np.nan, position),
        }
    )


def _star_id(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return a number a star that is the same in every run: its position in units of 0.36 arcsec."""
    return np.round(ra * 1e4).astype(np.int64) * 2_000_000 + np.round((dec + 90) * 1e4).astype(np.int64)


def match_visit(sources: Table, stars: Table, radius_arcsec: float = 1.0, reserved_fraction: float = 0.2) -> Table:
    """Return a visit's measurements of isolated stars, each with its difference from the star's mean.

    Parameters
    ----------
    sources : `astropy.table.Table`
        Source table of one visit.
    stars : `astropy.table.Table`
        Isolated stars, see `associate`.
    radius_arcsec : `float`
        Matching radius.
    reserved_fraction : `float`
        Share of the stars set aside to test with, chosen by their number: the same in every visit.

    Returns
    -------
    table : `astropy.table.Table`
        ``source_id, visit, detector, x, y, ra, dec, psf_flux, psf_flux_err, star_id, n_visits, star_flux,
        delta_mag`` (this visit minus mean), ``reserved, used_psf, used_astrometry, used_zero_point``.
    """
    chosen = good_stars(sources)
    columns = ["source_id", "visit", "detector", "x", "y", "ra", "dec", "psf_flux", "psf_flux_err",
               "used_psf", "used_astrometry", "used_zero_point"]  # fmt: skip
    bands = np.unique(np.asarray(chosen["band"]).astype(str))
    own = stars[np.isin(np.asarray(stars["band"]).astype(str), bands)] if len(stars) else stars
    if not len(chosen) or not len(own):
        out = chosen[columns][:0]
        index = np.zeros(0, int)
    else:
        distance, nearest = cKDTree(unit_vectors(own["ra"], own["dec"])).query(
            unit_vectors(chosen["ra"], chosen["dec"]), distance_upper_bound=chord(radius_arcsec)
        )
        found = np.isfinite(distance)
        out, index = chosen[columns][found], nearest[found]
    out["star_id"] = np.asarray(own["star_id"], np.int64)[index]
    out["n_visits"] = np.asarray(own["n_visits"], np.int32)[index]
    out["star_flux"] = np.asarray(own["flux"], float)[index]
    with np.errstate(all="ignore"):
        out["delta_mag"] = -2.5 * np.log10(np.asarray(out["psf_flux"]) / np.asarray(out["star_flux"]))
    # Knuth's multiplicative hash: neighbouring numbers fall apart.
    hashed = (np.asarray(out["star_id"]).astype(np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32)
    out["reserved"] = hashed < np.uint64(int(reserved_fraction * (1 << 32)))
    return out
