"""DIA objects: DIA sources of several visits joined by position, and the statistics of their light curves."""

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

RADIUS_ARCSEC = 1.0


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return positions on the unit sphere, (n, 3), from degrees."""
    ra, dec = np.deg2rad(np.asarray(ra, float)), np.deg2rad(np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], -1)


def chord(arcsec: float) -> float:
    """Return the distance of two unit vectors that are an angle apart."""
    return 2 * np.sin(np.deg2rad(arcsec / 3600) / 2)


def associate(
    ra: np.ndarray, dec: np.ndarray, weight: np.ndarray, visit: np.ndarray, radius_arcsec: float = RADIUS_ARCSEC
) -> np.ndarray:
    """Return the number of the object, 0…n-1, that each source belongs to.

    The most significant source that is still free founds an object; it takes the nearest free source of every visit
    within the radius of the mean position. So objects are no chains, and a visit gives an object one source at most.

    Parameters
    ----------
    ra, dec : `numpy.ndarray`, (n,)
        Degrees.
    weight : `numpy.ndarray`, (n,)
        Significance: weight of a position is its square.
    visit : `numpy.ndarray`, (n,)
        Visit of each source.
    radius_arcsec : `float`
    """
    n = len(ra)
    objects = np.full(n, -1)
    if not n:
        return objects
    vectors, limit = unit_vectors(ra, dec), chord(radius_arcsec)
    tree = cKDTree(vectors)
    neighbours = tree.query_ball_point(vectors, 1.5 * limit)
    weight = np.abs(np.asarray(weight, float))
    number = 0
    for seed in np.argsort(-weight, kind="stable"):
        if objects[seed] >= 0:
            continue
        free = np.array([i for i in neighbours[seed] if objects[i] < 0])
        centre = vectors[seed]
        for _ in range(2):
            distance = np.linalg.norm(vectors[free] - centre, axis=1)
            near = free[distance <= limit][np.argsort(distance[distance <= limit], kind="stable")]
            _, first = np.unique(visit[near], return_index=True)
            members = near[first]
            if seed not in members:  # the founder stays
                members = np.append(members[visit[members] != visit[seed]], seed)
            centre = np.average(vectors[members], axis=0, weights=weight[members] ** 2)
        objects[members] = number
        number += 1
    return objects


def object_table(sources: Table, objects: np.ndarray) -> Table:
    """Return one row for each object: its position and the sources it is made of.

    Parameters
    ----------
    sources : `astropy.table.Table`
        Columns ``diaSourceId, ra, dec, snr, midpoint_mjd``.
    objects : `numpy.ndarray`
        Result of `associate`.

    Returns
    -------
    table : `astropy.table.Table`
        ``diaObjectId`` (the identifier of its earliest source), ``ra, dec`` (weighted means, degrees), ``ra_err,
        dec_err`` (scatter of the mean, arcsec), ``n_sources``; in the order of the objects' numbers.
    """
    count = int(objects.max()) + 1 if len(objects) else 0
    columns = {
        "diaObjectId": np.zeros(count, np.int64), "ra": np.zeros(count), "dec": np.zeros(count),
        "ra_err": np.full(count, np.nan), "dec_err": np.full(count, np.nan), "n_sources": np.zeros(count, np.int32),
    }  # fmt: skip
    for number, rows in enumerate(_members(objects, count)):
        part = sources[rows]
        weights = np.asarray(part["snr"], float) ** 2
        mean = np.average(unit_vectors(part["ra"], part["dec"]), axis=0, weights=weights)
        ra, dec = np.rad2deg(np.arctan2(mean[1], mean[0])) % 360, np.rad2deg(np.arctan2(mean[2], np.hypot(*mean[:2])))
        earliest = np.lexsort((part["diaSourceId"], part["midpoint_mjd"]))[0]
        columns["diaObjectId"][number] = part["diaSourceId"][earliest]
        columns["ra"][number], columns["dec"][number] = ra, dec
        columns["n_sources"][number] = len(rows)
        if len(rows) > 1:
            east = ((np.asarray(part["ra"]) - ra + 180) % 360 - 180) * np.cos(np.deg2rad(dec)) * 3600
            north = (np.asarray(part["dec"]) - dec) * 3600
            columns["ra_err"][number] = east.std(ddof=1) / np.sqrt(len(rows))
            columns["dec_err"][number] = north.std(ddof=1) / np.sqrt(len(rows))
    return Table(columns)


def _members(objects: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the rows of each object."""
    order = np.argsort(objects, kind="stable")
    return np.split(order, np.searchsorted(objects[order], np.arange(1, count))) if count else []


def light_curve_statistics(objects: Table, sources: Table) -> Table:
    """Return the objects with statistics of their sources' PSF fluxes, over all bands and per band.

    Parameters
    ----------
    objects : `astropy.table.Table`
        Result of `object_table`.
    sources : `astropy.table.Table`
        Columns ``diaObjectId, flux, flux_err, band, midpoint_mjd, reliability``.

    Returns
    -------
    table : `astropy.table.Table`
        In addition ``first_mjd, last_mjd``, ``max_reliability``, and for each band b: ``b_n``, ``b_mean`` (weighted,
        nJy), ``b_mean_err``, ``b_sigma`` (scatter), ``b_chi2`` (about the mean), ``b_min``, ``b_max``, ``b_slope``
        (nJy a day); NaN where there are too few.
    """
    table = objects.copy()
    n = len(table)
    row_of = {int(i): k for k, i in enumerate(table["diaObjectId"])}
    numbers = np.array([row_of[int(i)] for i in sources["diaObjectId"]], int)
    mjd = np.asarray(sources["midpoint_mjd"], float) if len(sources) else np.zeros(0)
    band = np.asarray(sources["band"]).astype(str) if len(sources) else np.zeros(0, str)
    for name in ("first_mjd", "last_mjd", "max_reliability"):
        table[name] = np.full(n, np.nan)
    statistics = ("mean", "mean_err", "sigma", "chi2", "min", "max", "slope")
    for name in sorted(set(band)):
        table[f"{name}_n"] = np.zeros(n, np.int32)
        for statistic in statistics:
            table[f"{name}_{statistic}"] = np.full(n, np.nan)
    for k, rows in enumerate(_members(numbers, n)):
        if not len(rows):
            continue
        table["first_mjd"][k], table["last_mjd"][k] = mjd[rows].min(), mjd[rows].max()
        table["max_reliability"][k] = np.max(sources["reliability"][rows])
        for name in sorted(set(band[rows])):
            chosen = rows[band[rows] == name]
            flux, error = (np.asarray(sources[c], float)[chosen] for c in ("flux", "flux_err"))
            good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
            table[f"{name}_n"][k] = good.sum()
            if not good.any():
                continue
            for statistic, value in zip(statistics, _statistics(flux[good], error[good], mjd[chosen][good])):
                table[f"{name}_{statistic}"][k] = value
    return table


def _statistics(flux: np.ndarray, error: np.ndarray, mjd: np.ndarray) -> tuple[float, ...]:
    """Return weighted mean, its error, scatter, χ² about the mean, minimum, maximum and slope."""
    weight = 1 / error**2
    mean = np.average(flux, weights=weight)
    several = len(flux) > 1
    sigma = float(flux.std(ddof=1)) if several else np.nan
    chi2 = float((weight * (flux - mean) ** 2).sum()) if several else np.nan
    days = mjd - np.average(mjd, weights=weight)
    lever = (weight * days**2).sum()
    slope = float((weight * days * flux).sum() / lever) if several and lever > 0 else np.nan
    return float(mean), float(weight.sum() ** -0.5), sigma, chi2, float(flux.min()), float(flux.max()), slope
