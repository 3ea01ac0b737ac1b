"""The survey's skymap: fits the footprint, is one setting, never changes."""

import numpy as np
import pytest

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import detector_outline
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import add_discrete_skymap, exposures_outside_skymap, skymap_where


def test_discrete_skymap_contains_every_corner_of_every_detector(night, exposures):
    exposures["RA(deg)"][-1] += 1.5
    assert add_discrete_skymap(night, exposures) == "discrete"
    assert skymap_where(night) == "skymap='discrete'"
    assert night.settings.skymap_fits
    skymap = night.butler().get("skyMap", skymap="discrete", collections="skymaps")
    for row in exposures[-2:]:
        for detector in DETECTORS:
            for ra, dec in detector_outline(detector, row["RA(deg)"], row["DEC(deg)"]):
                assert skymap.find(ra, dec)


def test_its_rows_join_with_the_visits(night, exposures):
    add_discrete_skymap(night, exposures)
    with night.butler().query() as query:
        found = list(
            query.where(f"instrument='DECam' AND {skymap_where(night)}").data_ids(["visit", "detector", "patch"])
        )
    assert {d["detector"] for d in found} == set(DETECTORS)
    assert {d["skymap"] for d in found} == {"discrete"}


def test_tracts_far_apart_are_two(night, exposures):
    exposures["RA(deg)"][-1] += 60
    add_discrete_skymap(night, exposures)
    assert len(night.butler().query_dimension_records("tract", where="skymap='discrete'")) == 2


def test_registered_again_it_is_the_same(night, exposures):
    add_discrete_skymap(night, exposures)
    before = night.butler().get("skyMap", skymap="discrete", collections="skymaps")
    assert add_discrete_skymap(night, exposures) == "discrete"
    assert add_discrete_skymap(night, exposures[-1:]) == "discrete"  # what it contains, it fits
    assert night.butler().get("skyMap", skymap="discrete", collections="skymaps") == before


def test_an_existing_skymap_never_changes(night, exposures):
    add_discrete_skymap(night, exposures)
    before = night.butler().get("skyMap", skymap="discrete", collections="skymaps")
    exposures["RA(deg)"] += 10
    with pytest.raises(SurveyError, match="a skymap never changes.*--name"):
        add_discrete_skymap(night, exposures)
    assert night.butler().get("skyMap", skymap="discrete", collections="skymaps") == before
    assert add_discrete_skymap(night, exposures, name="wider") == "wider"
    assert skymap_where(night) == "skymap='wider'"


def test_the_rings_can_be_registered_twice(night):
    assert not night.engine.register_skymap(night.butler(writeable=True), night.engine.rings_skymap())


def test_exposures_outside_are_named(night, exposures):
    assert exposures_outside_skymap(night, exposures) == []  # the rings are the whole sky
    add_discrete_skymap(night, exposures)
    assert exposures_outside_skymap(night, exposures) == []
    exposures["DEC(deg)"][4] += 0.8  # half of the camera
    exposures["DEC(deg)"][0] += 40  # a zero points nowhere
    assert exposures_outside_skymap(night, exposures) == [845005]


def test_exposures_without_a_position(night, exposures):
    exposures["RA(deg)"][4] = np.nan
    add_discrete_skymap(night, exposures)
    with pytest.raises(SurveyError, match="no science exposures"):
        add_discrete_skymap(night, exposures[:4])
    exposures.remove_column("RA(deg)")
    with pytest.raises(SurveyError, match=r"no column RA\(deg\)"):
        add_discrete_skymap(night, exposures)
