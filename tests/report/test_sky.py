"""Maps of the sky: what is drawn where, fields told apart, areas kept; and pictures of nothing."""

from io import BytesIO

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.image import imread

from proc_decam_dagster.archive import shards_for
from proc_decam_dagster.camera.distortion import camera_outline
from proc_decam_dagster.report import coverage_map, sky_map
from proc_decam_dagster.report.sky import _fields, _flat, _pointings
from proc_decam_dagster.survey.exposures import read_exposures


def survey(*places, bands="VR") -> Table:
    ra, dec = zip(*places)
    bands = [bands] * len(ra) if isinstance(bands, str) else bands
    return Table({"RA(deg)": ra, "DEC(deg)": dec, "band": bands, "obs_type": ["object"] * len(ra)})


def pixels(png: bytes) -> np.ndarray:
    return imread(BytesIO(png))[..., :3]


def area_of(png: bytes, colour: str) -> int:
    red, green, blue = np.moveaxis(pixels(png), -1, 0)
    strongest = {"red": red - np.maximum(green, blue), "green": green - np.maximum(red, blue)}[colour]
    return int((strongest > 0.12).sum())


def test_pointings_are_counted_by_band_and_place():
    table = survey((10, 0), (10.001, 0), (10, 0), (12, 0), (np.nan, 0), bands=["r", "r", "g", "r", "r"])
    shown = _pointings(table)
    assert sorted(zip(shown["band"], shown["count"])) == [("g", 1), ("r", 1), ("r", 2)]


def test_fields_hang_together_across_ra_0_and_at_the_pole():
    shown = _pointings(survey((359, 0), (1, 0), (180, 0), (0, 89.5), (180, 89.5)))
    groups = [sorted(np.round(shown["ra"][g], 3).tolist()) for g in _fields(shown)]
    assert sorted(map(len, groups)) == [1, 2, 2] and [1.0, 359.0] in groups and [0.0, 180.0] in groups


def test_areas_are_kept():
    def area(ra, dec, centre):
        x, y = _flat(*camera_outline(ra, dec).T, *centre)
        return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))

    middle = area(30, -10, (30, -10))
    assert area(36, -14, (30, -10)) == pytest.approx(middle, rel=2e-3)
    assert area(359.9, 70, (2, 70)) == pytest.approx(middle, rel=2e-3)


def test_the_real_survey_is_drawn(shared_data):
    table = read_exposures(shared_data / "archive" / "exposures_object_raw.ecsv")
    image = pixels(sky_map(table, "2019A-0337"))
    assert min(image.shape[:2]) > 600 and len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def test_missing_shards_are_red():
    table = survey((149.4, 1.7))
    wanted = shards_for(table)
    whole = coverage_map(table, wanted, {"gaia": wanted})
    half = coverage_map(table, wanted, {"gaia": wanted[::2]})
    none = coverage_map(table, wanted, {"gaia": []})
    assert area_of(whole, "red") < 50 < area_of(half, "red") < area_of(none, "red")
    assert area_of(whole, "green") > area_of(half, "green") > 50 > area_of(none, "green")
    assert pixels(coverage_map(table, wanted, {"gaia": wanted, "ps1": []})).shape[1] > pixels(whole).shape[1]


def test_nothing_to_draw_is_said_in_a_picture():
    empty = survey((10, 0))[:0]
    for png in (sky_map(empty), sky_map(Table({"night": [1]})), coverage_map(empty, [1], {"gaia": []}),
                coverage_map(survey((1, 1)), [231818], {})):  # fmt: skip
        assert png[:4] == b"\x89PNG"
