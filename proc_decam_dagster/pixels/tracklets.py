"""Tracklets: DIA sources of one night that move along a line at a constant rate."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree
from scipy.stats import poisson

from proc_decam_dagster.pixels.tangent import project, unproject

NIGHT_BREAK = 0.7
"""Part of an MJD at which a night at Cerro Tololo ends: local noon."""


@dataclass(frozen=True)
class TrackletSettings:
    """What a survey may want to change.

    Attributes
    ----------
    min_detections : `int`
        Fewest detections; more are asked for in nights so crowded that chance would link more than ``max_false``.
    max_rate, min_rate : `float`
        Arcsec an hour. Slower ones cannot be told from what stands still.
    tolerance : `float`
        Largest distance of a detection from the line, arcsec.
    max_gap_hours : `float`
        Longest time between the two detections that a search starts from.
    max_flux_ratio : `float`
        Of two detections.
    max_false : `float`
        Chance tracklets expected a night and field.
    """

    min_detections: int = 3
    max_rate: float = 60.0
    min_rate: float = 1.0
    tolerance: float = 0.4
    max_gap_hours: float = 0.75
    max_flux_ratio: float = 4.0
    max_false: float = 0.1


def night_of(mjd: np.ndarray) -> np.ndarray:
    """Return the number of the night of MJDs: that of the UTC day in which it ends."""
    return np.floor(np.asarray(mjd, float) + 1 - NIGHT_BREAK).astype(np.int64)


def link_tracklets(sources: Table, settings: TrackletSettings | None = None) -> tuple[Table, np.ndarray]:
    """Link the DIA sources of each night.

    Parameters
    ----------
    sources : `astropy.table.Table`
        Columns ``diaSourceId, ra, dec`` (degrees), ``midpoint_mjd, flux, visit``. Sources without a positive flux are
        not linked: they are what has gone from the template's place.
    settings : `TrackletSettings`, optional

    Returns
    -------
    tracklets : `astropy.table.Table`
        ``trackletId`` (of its earliest source), ``night`` (MJD of its end), ``mjd, ra, dec`` (middle), ``rate_ra,
        rate_dec`` (arcsec/h, the former times cos Dec), ``rate_err`` (arcsec/h), ``rms`` (arcsec an axis), ``flux``
        (mean, nJy), ``n_detections``, ``hours`` (first to last), ``expected_false`` (chance tracklets of so many
        detections in that night and field).
    members : `numpy.ndarray`, (n,)
        The ``trackletId`` of each source; 0 of most.
    """
    settings = settings or TrackletSettings()
    members = np.zeros(len(sources), np.int64)
    rows = []
    flux = np.asarray(sources["flux"], float)
    usable = np.isfinite(flux) & (flux > 0) & np.isfinite(np.asarray(sources["ra"], float))
    nights = night_of(sources["midpoint_mjd"]) if len(sources) else np.zeros(0, np.int64)
    for night in np.unique(nights[usable]):
        chosen = np.flatnonzero(usable & (nights == night))
        for found, row in _link_night(sources[chosen], settings):
            own = chosen[found]
            first = own[np.argmin(np.asarray(sources["midpoint_mjd"])[own])]
            identifier = int(sources["diaSourceId"][first])
            members[own] = identifier
            rows.append((identifier, night, *row))
    names = ("trackletId", "night", "mjd", "ra", "dec", "rate_ra", "rate_dec", "rate_err", "rms", "flux",
             "n_detections", "hours", "expected_false")  # fmt: skip
    types = (np.int64, np.int64, *(float,) * 8, np.int32, float, float)
    return Table(rows=rows or None, names=names, dtype=types), members


def _link_night(sources: Table, settings: TrackletSettings) -> list[tuple[np.ndarray, tuple]]:
    """Return the tracklets of a night: indices of their sources, and the values of a row after the night."""
    ra, dec = np.asarray(sources["ra"], float), np.asarray(sources["dec"], float)
    ra0, dec0 = float(ra[0]), float(np.median(dec))
    place = np.stack(project(ra, dec, ra0, dec0), 1) * 3600
    mjd = np.asarray(sources["midpoint_mjd"], float)
    hours = (mjd - mjd.min()) * 24
    flux = np.asarray(sources["flux"], float)
    visits, visit = np.unique(np.asarray(sources["visit"]), return_inverse=True)
    if len(visits) < settings.min_detections:
        return []
    first, second = _pairs(place, hours, flux, visit, settings)
    candidates, chance = _extended(place, hours, flux, visit, first, second, settings)
    moved = np.hypot(*(place[second] - place[first]).T) > 2 * settings.tolerance
    # Of n detections two are the pair; the others are there by chance as often as their density says.
    expected = poisson.sf(np.arange(len(visits) + 1) - 3, chance) * max(moved.sum(), 1)
    needed = max(settings.min_detections, int(np.argmax(expected <= settings.max_false)))
    free = np.ones(len(sources), bool)
    found = []
    for members in sorted(candidates, key=lambda m: (-len(m), m)):
        members = np.array(members)
        members = members[free[members]]
        if len(members) < needed:
            continue
        members, fit = _line(place, hours, members, settings.tolerance)
        if len(members) < needed:
            continue
        middle, rate, rate_err, rms, epoch = fit
        speed = float(np.hypot(*rate))
        if not settings.min_rate <= speed <= settings.max_rate or speed < 5 * rate_err:
            continue
        free[members] = False
        ra_mid, dec_mid = unproject(*(middle / 3600), ra0, dec0)
        span = float(np.ptp(hours[members]))
        found.append((members, (
            mjd.min() + epoch / 24, float(ra_mid) % 360, float(dec_mid), float(rate[0]), float(rate[1]), rate_err, rms,
            float(flux[members].mean()), len(members), span, float(expected[len(members)]),
        )))  # fmt: skip
    return found


def _pairs(place, hours, flux, visit, settings) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of detections, the earlier first, that could be one moving object.

    What is seen again at its place after the slowest would have left it does not move.
    """
    tree = cKDTree(place)
    still = tree.query_pairs(settings.tolerance, output_type="ndarray")
    still = still[np.abs(np.diff(hours[still], axis=1)[:, 0]) > 2 * settings.tolerance / settings.min_rate]
    fixed = np.zeros(len(place), bool)
    fixed[still.ravel()] = True
    pairs = tree.query_pairs(settings.max_rate * settings.max_gap_hours, output_type="ndarray")
    pairs = pairs[~fixed[pairs].any(1)]
    if not len(pairs):
        return np.zeros(0, int), np.zeros(0, int)
    early = hours[pairs[:, 0]] <= hours[pairs[:, 1]]
    first, second = np.where(early, pairs.T, pairs.T[::-1])
    gap = hours[second] - hours[first]
    distance = np.hypot(*(place[second] - place[first]).T)
    ratio = np.maximum(flux[first], flux[second]) / np.minimum(flux[first], flux[second])
    good = (visit[first] != visit[second]) & (gap > 0) & (gap <= settings.max_gap_hours)
    good &= (distance <= settings.max_rate * gap) & (ratio <= settings.max_flux_ratio)
    # What hardly moves cannot be measured: its other detections are found from a longer gap.
    good &= distance + 2 * settings.tolerance >= settings.min_rate * gap
    return first[good], second[good]


def _extended(place, hours, flux, visit, first, second, settings):
    """Return sets of detections on the line of each pair, and the detections of others expected on one by chance."""
    sets = [[a, b] for a, b in zip(first, second)]
    chance = 0.0
    if not len(first):
        return set(), chance
    gap = hours[second] - hours[first]
    rate = (place[second] - place[first]) / gap[:, None]
    mean = np.sqrt(flux[first] * flux[second])
    area = np.prod(np.ptp(place, axis=0) + 1)
    for number in range(visit.max() + 1):
        rows = np.flatnonzero(visit == number)
        away = hours[rows[0]] - hours[first]
        # The line is known worse where it is extrapolated.
        reach = settings.tolerance * np.clip(np.abs(away - gap / 2) / gap * 2, 1.0, 4.0)
        predicted = place[first] + rate * away[:, None]
        distance, nearest = cKDTree(place[rows]).query(predicted, distance_upper_bound=4 * settings.tolerance)
        hit = np.flatnonzero(np.isfinite(distance) & (distance <= reach))
        hit = hit[(visit[first[hit]] != number) & (visit[second[hit]] != number)]
        like = np.abs(np.log(flux[rows[nearest[hit]]] / mean[hit])) < np.log(settings.max_flux_ratio)
        for each, row in zip(hit[like], rows[nearest[hit[like]]]):
            sets[each].append(row)
        chance += len(rows) * np.pi * float(np.mean(reach**2)) / area
    return {tuple(sorted(int(i) for i in s)) for s in sets if len(s) >= settings.min_detections}, chance


def _line(place, hours, members, tolerance):
    """Return the members that lie on one line after the farthest were left out, and the line."""
    while len(members) >= 3:
        epoch = hours[members].mean()
        t = hours[members] - epoch
        middle = place[members].mean(0)
        rate = (t[:, None] * place[members]).sum(0) / (t**2).sum()
        left = place[members] - middle - t[:, None] * rate
        distance = np.hypot(*left.T)
        if distance.max() <= tolerance:
            rms = float(np.sqrt((left**2).sum() / (2 * (len(members) - 2))))
            return members, (middle, rate, max(rms, 0.02) / np.sqrt((t**2).sum()), rms, epoch)
        members = np.delete(members, distance.argmax())
    return members[:0], None
