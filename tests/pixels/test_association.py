"""DIA sources become DIA objects by position, and their light curves get statistics."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.pixels.association import associate, light_curve_statistics, object_table


def sources(ra, dec, visit, flux=None):
    n = len(ra)
    flux = np.full(n, 100.0) if flux is None else np.asarray(flux, float)
    return Table({
        "diaSourceId": np.arange(n, dtype=np.int64) + 500, "ra": ra, "dec": dec, "visit": visit,
        "snr": flux / 10, "flux": flux, "flux_err": np.full(n, 10.0), "band": np.full(n, "g"),
        "midpoint_mjd": 59000.0 + np.asarray(visit), "reliability": np.linspace(0.5, 0.9, n),
    })  # fmt: skip


def test_three_epochs_of_two_objects():
    """Sources within an arcsecond become one object, whatever their order; others stay apart."""
    rng = np.random.default_rng(1)
    ra = np.repeat([359.9999, 150.0], 3) + rng.normal(0, 0.1, 6) / 3600
    dec = np.repeat([-60.0, 2.0], 3) + rng.normal(0, 0.1, 6) / 3600
    visit = np.array([1, 2, 3, 1, 2, 3])
    order = rng.permutation(6)
    objects = associate(ra[order], dec[order], np.full(6, 10.0), visit[order])
    back = np.empty(6, int)
    back[order] = objects
    assert len(set(back[:3])) == 1 and len(set(back[3:])) == 1 and back[0] != back[3]


def test_a_visit_gives_an_object_one_source():
    """Two sources of a visit within the radius belong to two objects."""
    ra, dec = np.array([150.0, 150.0, 150.0]), np.array([2.0, 2.0 + 0.6 / 3600, 2.0])
    objects = associate(ra, dec, np.array([9.0, 8.0, 7.0]), np.array([1, 1, 2]))
    assert objects[0] == objects[2] != objects[1]


def test_a_mover_is_no_chain():
    """Steps of 0.8 arcsec do not join into one long object."""
    dec = 2.0 + np.arange(10) * 0.8 / 3600
    objects = associate(np.full(10, 150.0), dec, np.full(10, 10.0), np.arange(10))
    assert len(set(objects)) >= 4
    for number in set(objects):
        assert np.ptp(dec[objects == number]) * 3600 < 2.1


def test_object_position_and_identifier():
    """The position is the weighted mean, also across 0 h; the identifier is the earliest source's."""
    table = sources(np.array([359.9999, 0.0001]), np.array([0.0, 0.0]), np.array([7, 3]), [100.0, 100.0])
    objects = object_table(table, np.array([0, 0]))
    assert min(objects["ra"][0], 360 - objects["ra"][0]) < 1e-6
    assert objects["diaObjectId"][0] == 501 and objects["n_sources"][0] == 2
    assert objects["ra_err"][0] == pytest.approx(0.72 / np.sqrt(2) / np.sqrt(2), rel=1e-3)


def test_light_curve_statistics():
    """Mean, error, scatter, χ², range and slope of a linear light curve."""
    table = sources(np.full(4, 150.0), np.full(4, 2.0), np.array([0, 1, 2, 3]), [80.0, 90.0, 100.0, 110.0])
    table["diaObjectId"] = np.full(4, 500, np.int64)
    (row,) = light_curve_statistics(object_table(table, np.zeros(4, int)), table)
    assert row["g_n"] == 4 and row["g_mean"] == pytest.approx(95) and row["g_mean_err"] == pytest.approx(5)
    assert row["g_slope"] == pytest.approx(10) and (row["g_min"], row["g_max"]) == (80, 110)
    assert row["g_chi2"] == pytest.approx((15**2 + 5**2) * 2 / 100)
    assert (row["first_mjd"], row["last_mjd"]) == (59000, 59003) and row["max_reliability"] == pytest.approx(0.9)


def test_no_sources():
    """Nothing in, nothing out, with all the columns."""
    table = sources(np.zeros(0), np.zeros(0), np.zeros(0, int), [])
    objects = object_table(table, associate(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, int)))
    table["diaObjectId"] = np.zeros(0, np.int64)
    assert len(light_curve_statistics(objects, table)) == 0
