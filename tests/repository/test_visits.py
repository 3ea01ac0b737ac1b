"""Visits: one a science exposure, on the sky where its detectors are."""

import pytest
from lsst.sphgeom import LonLat, UnitVector3d

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import detector_outline
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import Repository, define_visits, ingest_raws, skymap_where


def test_one_visit_a_science_exposure(night):
    records = night.butler().query_dimension_records("visit")
    assert {r.id for r in records} == {845005, 845006}
    assert {(r.exposure, r.visit) for r in night.butler().query_dimension_records("visit_definition")} == {
        (845005, 845005), (845006, 845006),
    }  # fmt: skip
    assert [r.name for r in night.butler().query_dimension_records("visit_system")] == ["one-to-one"]


def test_a_second_time_does_nothing(night):
    assert define_visits(night, "20190401") == 0


def test_regions_hold_the_true_outlines_with_the_pointing_error(night):
    visit = night.butler().query_dimension_records("visit")[0]
    regions = {
        r.detector: r.region
        for r in night.butler().query_dimension_records(
            "visit_detector_region", where="visit=845005 AND instrument='DECam'"
        )
    }
    assert set(regions) == set(DETECTORS)
    exposure = night.butler().query_dimension_records("exposure", where="exposure=845005 AND instrument='DECam'")[0]
    off = 10 / 3600  # arcsec: what headers are wrong by
    for detector, region in regions.items():
        for dra, ddec in ((0, 0), (off, 0), (0, off), (-off, -off)):
            for corner in detector_outline(detector, exposure.tracking_ra + dra, exposure.tracking_dec + ddec):
                point = UnitVector3d(LonLat.fromDegrees(*corner))
                assert region.contains(point)
                assert visit.region.contains(point)
        middle = UnitVector3d(region.getCentroid())
        assert sum(other.contains(middle) for other in regions.values()) == 1  # padded, but neighbours are apart


def test_tracts_of_the_whole_sky_come_with_the_visits(night):
    where = f"instrument='DECam' AND {skymap_where(night)}"
    with night.butler().query() as query:
        found = list(query.where(where).data_ids(["visit", "detector", "tract", "patch"]))
    assert {d["visit"] for d in found} == {845005, 845006}
    assert {d["detector"] for d in found} == set(DETECTORS)
    skymap = night.butler().get("skyMap", skymap=night.settings.skymap, collections="skymaps")
    (home, patch), *_ = skymap.find(149.4, 1.7)
    assert (home, patch) in {(d["tract"], d["patch"]) for d in found}


def test_visits_on_a_whole_sky_cost_few_rows(night):
    tracts = night.butler().query_dimension_records("tract", where=skymap_where(night))
    assert 1 <= len(tracts) <= 9


def test_nothing_ingested(repo, exposures):
    repo.remember_exposures(exposures)
    with pytest.raises(SurveyError, match="none of the 2 science exposures"):
        define_visits(repo, "20190401")


def test_night_without_science(repo, exposures, image_dir):
    ingest_raws(repo, exposures[:2], image_dir)
    with pytest.raises(SurveyError, match="no object frames on night 20190401"):
        define_visits(repo, "20190401")


def test_raws_ingested_later_add_their_visits(repo, exposures, image_dir):
    ingest_raws(repo, exposures[:5], image_dir)
    assert define_visits(repo, "20190401") == 1
    ingest_raws(repo, exposures, image_dir)
    assert define_visits(Repository(repo.root), "20190401") == 1
