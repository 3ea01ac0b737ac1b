"""Movers are linked within a night; what stands still, and what is there by chance, is not."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.pixels.tracklets import TrackletSettings, link_tracklets, night_of

NIGHT = 58600.15
VISITS = NIGHT + np.arange(4) * 900 / 86400
SIDE = 0.5
"""Degrees."""


def night(rng, *, movers=40, stationary=150, chance=60, visits=VISITS, centre=(359.9, -20.0), detected=1.0):
    """Return DIA sources of a night over a field across 0 h; column ``mover`` is 0 for what does not move."""
    rate, angle = rng.uniform(2, 55, movers), rng.uniform(0, 2 * np.pi, movers)
    place = rng.uniform(-SIDE / 2, SIDE / 2, (movers, 2)) * 3600
    fixed = rng.uniform(-SIDE / 2, SIDE / 2, (stationary, 2)) * 3600
    flux_moving, flux_fixed = rng.uniform(500, 3000, movers), rng.uniform(500, 3000, stationary)
    parts = []
    for number, mjd in enumerate(visits):
        hours = (mjd - visits[0]) * 24
        moving = place + hours * (rate * np.array([np.cos(angle), np.sin(angle)])).T
        lone = rng.uniform(-SIDE / 2, SIDE / 2, (rng.poisson(chance), 2)) * 3600
        at = np.concatenate([moving, fixed, lone]) + rng.normal(0, 0.07, (movers + stationary + len(lone), 2))
        name = np.concatenate([np.arange(1, movers + 1), np.zeros(stationary + len(lone), int)])
        flux = np.concatenate([flux_moving, flux_fixed, rng.uniform(500, 3000, len(lone))])
        seen = rng.random(len(at)) < detected
        dec = centre[1] + at[:, 1] / 3600
        ra = (centre[0] + at[:, 0] / 3600 / np.cos(np.deg2rad(dec))) % 360
        parts.append(np.stack([ra, dec, name, flux, np.full(len(at), mjd), np.full(len(at), number)], 1)[seen])
    ra, dec, name, flux, mjd, visit = np.concatenate(parts)[rng.permutation(sum(map(len, parts)))].T
    table = Table({"ra": ra, "dec": dec, "flux": flux, "midpoint_mjd": mjd, "visit": visit.astype(int),
                   "mover": name.astype(int)})  # fmt: skip
    table["diaSourceId"] = np.arange(len(table)) + 1000
    return table, rate, angle


def test_movers_are_linked_with_their_rates():
    rng = np.random.default_rng(1)
    sources, rate, angle = night(rng)
    tracklets, members = link_tracklets(sources)
    linked = {int(i): set(sources["mover"][members == i]) for i in tracklets["trackletId"]}
    pure = {next(iter(names)) for names in linked.values() if len(names) == 1 and names != {0}}
    assert len(pure) >= 38
    assert len(tracklets) - len(pure) <= 1
    for row in tracklets:
        (mover, *others) = linked[int(row["trackletId"])]
        if mover and not others:
            expected = rate[mover - 1] * np.array([np.cos(angle[mover - 1]), np.sin(angle[mover - 1])])
            assert np.hypot(row["rate_ra"] - expected[0], row["rate_dec"] - expected[1]) < 0.8
            assert row["n_detections"] == (members == row["trackletId"]).sum()
            assert row["night"] == 58600 and row["hours"] <= 0.76


def test_chance_links_no_more_than_is_said():
    """Thirty nights without a mover: fewer false tracklets than a tenth a night, which is what is asked for."""
    found = 0
    for seed in range(30):
        sources, *_ = night(np.random.default_rng(seed), movers=0, chance=100)
        found += len(link_tracklets(sources)[0])
    assert found <= 8  # 3 are expected at most; 8 or more of 3 happen once in 80 times


def test_crowded_nights_ask_for_more_detections():
    """So many spurious sources that three in line are nothing: four are asked for, and movers are found."""
    sources, *_ = night(np.random.default_rng(4), chance=1500)
    tracklets, members = link_tracklets(sources, TrackletSettings(max_rate=30.0))
    assert len(tracklets) and tracklets["n_detections"].min() >= 4
    assert tracklets["expected_false"].max() <= 0.1
    true = [set(sources["mover"][members == i]) for i in tracklets["trackletId"]]
    assert np.mean([len(names) == 1 and names != {0} for names in true]) > 0.8


def test_many_visits_and_missed_detections():
    visits = NIGHT + np.arange(20) * 300 / 86400
    sources, *_ = night(np.random.default_rng(5), movers=15, visits=visits, detected=0.7, chance=30)
    tracklets, members = link_tracklets(sources)
    names = [set(sources["mover"][members == i]) - {0} for i in tracklets["trackletId"]]
    assert len(set().union(*names)) >= 14 and len(tracklets) <= 17
    assert np.median(tracklets["n_detections"]) > 10


def test_nights_are_not_mixed_and_negative_sources_not_linked():
    sources, *_ = night(np.random.default_rng(6), stationary=0, chance=0, movers=5)
    apart = sources.copy()
    apart["midpoint_mjd"] += apart["visit"]  # each visit in a night of its own
    assert not len(link_tracklets(apart)[0])
    gone = sources.copy()
    gone["flux"] = -gone["flux"]
    assert not len(link_tracklets(gone)[0])
    tracklets, members = link_tracklets(sources[:0])
    assert not len(tracklets) and not len(members) and "rate_ra" in tracklets.colnames


@pytest.mark.parametrize(("utc", "expected"), [(58599.95, 58600), (58600.1, 58600), (58600.4, 58600), (58600.9, 58601)])
def test_a_night_ends_at_noon_in_chile(utc, expected):
    assert night_of(utc) == expected
