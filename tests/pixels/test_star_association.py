"""Stars over visits: found again, their scatter that of the measurements, and detectors judged by it."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.pixels.mask import BAD, CR, SAT
from proc_decam_dagster.pixels.measurement import FLAG_PLANES
from proc_decam_dagster.pixels.star_association import associate, match_visit
from proc_decam_dagster.pixels.visit_quality import amplifier_figures, judge, mean_direction, visit_row


def visit_table(visit, seed, offset_mag=0.0, n=60, centre=(359.999, 2.0)):
    """Return a source table of ``n`` stars in two detectors around RA 0, 10 mmag and 10 mas of scatter."""
    sky, rng = np.random.default_rng(0), np.random.default_rng(seed)
    ra = (centre[0] + sky.uniform(-0.05, 0.05, n)) % 360
    dec = centre[1] + sky.uniform(-0.05, 0.05, n)
    flux = 10 ** sky.uniform(4, 5.5, n)
    detector = np.where(np.arange(n) < n // 2, 1, 2).astype(np.int32)
    measured = flux * 10 ** (-0.4 * (offset_mag * (detector == 2))) * (1 + 0.0092 * rng.normal(size=n))
    table = Table(
        {
            "source_id": visit * 1000 + np.arange(n), "visit": np.full(n, visit), "detector": detector,
            "band": np.full(n, "VR", "U8"), "x": np.zeros(n), "y": np.zeros(n),
            "ra": (ra + 10 / 3.6e6 * rng.normal(size=n)) % 360, "dec": dec + 10 / 3.6e6 * rng.normal(size=n),
            "psf_flux": measured, "psf_flux_err": 0.01 * measured, "snr": np.full(n, 100.0), "star": np.ones(n, bool),
        }
    )  # fmt: skip
    for name in [*FLAG_PLANES, "flag_blended", "flag_centroid", "used_psf", "used_astrometry", "used_zero_point"]:
        table[name] = np.zeros(n, bool)
    return table


def summary(zero_points):
    n = len(zero_points)
    columns = {"fwhm_arcsec": 1.0, "astrometric_rms_mas": 10.0, "live_masked_fraction": 0.01, "sky_e": 900.0,
               "sky_rms_e": 30.0, "depth_5sigma_mag": 24.0, "mjd_mid": 58600.0, "exptime": 50.0, "flux_scale": 2.0,
               "dec": 2.0, "psf_e1": 0.02, "psf_e2": -0.01}  # fmt: skip
    table = Table({name: np.full(n, value) for name, value in columns.items()})
    table["visit"], table["detector"], table["band"] = np.full(n, 7), np.arange(1, n + 1), np.full(n, "VR")
    table["physical_filter"] = np.full(n, "VR DECam c0007 6300.0 2600.0")
    table["zero_point"], table["ra"] = zero_points, (359.9 + 0.1 * np.arange(n)) % 360
    return table


def test_stars_are_found_in_every_visit_with_their_scatter():
    stars = associate([visit_table(v, v) for v in range(1, 9)])
    assert 50 < len(stars) <= 60 and (stars["n_visits"] == 8).all()
    assert np.median(stars["scatter_mmag"]) == pytest.approx(10, rel=0.2)
    assert np.median(stars["position_scatter_mas"]) == pytest.approx(10, rel=0.2)
    assert ((stars["ra"] > 359) | (stars["ra"] < 1)).all()
    assert len(np.unique(stars["star_id"])) == len(stars)


def test_crowded_and_flagged_sources_are_left_out():
    table = visit_table(1, 1)
    table["ra"][1], table["dec"][1] = table["ra"][0] + 2 / 3600, table["dec"][0]
    table["flag_saturated"][5] = True
    stars = associate([table])
    assert not np.any(np.hypot(stars["ra"] - table["ra"][0], stars["dec"] - table["dec"][0]) < 1e-5)
    assert not np.any(np.hypot(stars["ra"] - table["ra"][5], stars["dec"] - table["dec"][5]) < 1e-5)
    assert np.isnan(stars["scatter_mmag"]).all()
    assert len(associate([])) == 0


def test_a_detector_whose_stars_are_faint_is_not_accepted():
    visits = [visit_table(v, v) for v in range(1, 6)] + [visit_table(7, 7, offset_mag=0.4)]
    matched = match_visit(visits[-1], associate(visits))
    assert 0.05 < matched["reserved"].mean() < 0.5
    judged = judge(summary([30.0, 30.0]), matched)
    assert list(judged["accepted"]) == [True, False]
    assert "stars +0.3" in judged["reason"][1]
    assert len(match_visit(visits[0], associate([]))) == 0


def test_a_zero_point_outlier_is_not_accepted_and_leaves_the_visits_medians_alone():
    judged = judge(summary([30.0, 30.02, 29.98, 29.2]), match_visit(visit_table(7, 7), associate([])))
    assert list(judged["accepted"]) == [True, True, True, False]
    assert judged["reason"][3].startswith("zero point -0.79")
    row = visit_row(judged)
    assert row["n_detectors"] == 4 and row["n_accepted"] == 3
    assert row["zero_point"] == pytest.approx(30.0)
    assert min(row["ra"], 360 - row["ra"]) < 0.2


def test_a_lost_amplifier_does_not_cost_the_detector_its_other_half():
    """One masked by the survey's list, or dead: the row says which; a CCD masked in patches is refused."""
    masks = np.zeros((3, 4096, 2048), np.int32)
    masks[1][DETECTORS[31].amplifier("B").bbox.slices] = BAD
    masks[2, ::2] = BAD
    masks[2, ::8] |= SAT
    masks[2, 1::8] = CR
    figures = [amplifier_figures(mask, 31) for mask in masks]
    assert [each["lost_amplifiers"] for each in figures] == ["", "B", ""]
    assert [each["live_masked_fraction"] for each in figures] == pytest.approx([0, 0, 0.625])
    table = summary([30.0, 30.0, 30.0])
    table["live_masked_fraction"] = [each["live_masked_fraction"] for each in figures]
    judged = judge(table, match_visit(visit_table(7, 7), associate([])))
    assert list(judged["accepted"]) == [True, True, False]
    assert judged["reason"][2] == "62 % of the pixels masked"
    masks[1] = BAD
    assert amplifier_figures(masks[1], 31) == {"lost_amplifiers": "AB", "live_masked_fraction": 1.0}


def test_mean_direction_across_the_meridian():
    ra, dec = mean_direction([358.0, 4.0], [0.0, 0.0])
    assert (ra, dec) == pytest.approx((1.0, 0.0), abs=1e-9)
