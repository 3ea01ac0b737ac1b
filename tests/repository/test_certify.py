"""Certification: detector by detector, from the newest run, leaving the others."""

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import certify_calibrations, decertify, update_chain

NIGHT = "20190401"
CALIB = f"{NIGHT}/calib/bias"
VR, G = "VR DECam c0007 6300.0 2600.0", "g DECam SDSS c0001 4720.0 1520.0"
ENOUGH = {(detector, ""): 10 for detector in range(1, 63)}


@pytest.fixture
def make(night, put):
    """A function that makes masters in a new run of a chain."""

    def make_masters(proc_type, stamp, *data_ids):
        run = f"{NIGHT}/{proc_type}/{proc_type}/step2/{stamp}"
        night.butler(writeable=True).collections.register(run, CollectionType.RUN)
        dimensions = (
            ("instrument", "detector") if proc_type == "bias" else ("instrument", "physical_filter", "detector")
        )
        for data_id in data_ids:
            put(night, proc_type, run, dimensions, True, **data_id)
        update_chain(night, proc_type, NIGHT)

    return make_masters


def certified(repo, name="bias"):
    """Return detector (and filter) → run of what is certified."""
    refs = repo.butler().query_datasets(name, f"{NIGHT}/calib/{name}", find_first=False, explain=False)
    return {tuple(ref.dataId.required_values)[1:]: ref.run.rpartition("/")[2] for ref in refs}


def test_certified_for_the_whole_survey(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1, 25), frames=ENOUGH)
    assert report.ok
    assert report.certified == [{"detector": 1}, {"detector": 25}]
    spans = {str(a.timespan) for a in night.butler().registry.queryDatasetAssociations("bias", [CALIB])}
    assert spans == {"[2000-01-01T00:00:00, 2050-01-01T00:00:00)"}
    # found for an exposure as a task finds it
    assert night.butler().get("bias", detector=25, exposure=845005, instrument="DECam", collections=CALIB)


def test_one_detector_leaves_the_others_certified(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    certify_calibrations(night, "bias", NIGHT, expected_detectors=(1, 25), frames=ENOUGH)
    make("bias", "20240201T000000Z", {"detector": 1})
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1,), frames=ENOUGH)
    assert report.ok
    assert certified(night) == {(1,): "20240201T000000Z", (25,): "20240101T000000Z"}


def test_missing_detector_is_named(night, make):
    make("bias", "20240101T000000Z", {"detector": 1})
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1, 2, 25), frames=ENOUGH)
    assert not report.ok
    assert report.refused == [
        ({"detector": 2}, "the pipeline made no bias"),
        ({"detector": 25}, "the pipeline made no bias"),
    ]
    assert certified(night) == {(1,): "20240101T000000Z"}


def test_too_few_frames_are_not_certified(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1, 25), frames=ENOUGH | {(1, ""): 4})
    assert report.refused == [({"detector": 1}, "made from 4 frames, expected at least 5")]
    assert certified(night) == {(25,): "20240101T000000Z"}


def test_frames_are_counted_from_the_raws(night, make):
    make("bias", "20240101T000000Z", {"detector": 1})
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1,))
    assert report.refused == [({"detector": 1}, "made from 2 frames, expected at least 5")]
    assert certify_calibrations(night, "bias", NIGHT, expected_detectors=(1,), min_frames=2).ok


def test_frames_that_failed_are_not_counted(night, make, put):
    make("bias", "20240101T000000Z", {"detector": 1})
    run = f"{NIGHT}/bias/bias/step1/20231231T000000Z"
    night.butler(writeable=True).collections.register(run, CollectionType.RUN)
    put(night, "cpBiasIsr_metadata", run, ("instrument", "exposure", "detector"), exposure=845001, detector=1)
    update_chain(night, "bias", NIGHT)
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1,), min_frames=2)
    assert report.refused == [({"detector": 1}, "made from 1 frames, expected at least 2")]


def test_a_master_that_its_check_refuses(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    report = certify_calibrations(
        night, "bias", NIGHT, expected_detectors=(1, 25), frames=ENOUGH,
        check=lambda ref: "far from the last good night" if ref.dataId["detector"] == 25 else None,
    )  # fmt: skip
    assert report.refused == [({"detector": 25}, "far from the last good night")]
    assert list(certified(night)) == [(1,)]


def test_a_refused_master_keeps_the_last_good_one(night, make):
    make("bias", "20240101T000000Z", {"detector": 1})
    certify_calibrations(night, "bias", NIGHT, expected_detectors=(1,), frames=ENOUGH)
    make("bias", "20240201T000000Z", {"detector": 1})
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1,), frames={})
    assert (report.ok, report.kept) == (False, 1)
    assert certified(night) == {(1,): "20240101T000000Z"}


def test_flats_go_by_filter_and_detector(night, make):
    make("flat", "20240101T000000Z", {"detector": 1, "physical_filter": VR}, {"detector": 25, "physical_filter": VR})
    certify_calibrations(night, "flat", NIGHT, expected_detectors=(1, 25), frames={(d, VR): 9 for d in (1, 25)})
    make("flat", "20240201T000000Z", {"detector": 1, "physical_filter": G})
    report = certify_calibrations(
        night, "flat", NIGHT, expected_detectors=(1, 25), frames={(d, f): 9 for d in (1, 25) for f in (VR, G)}
    )
    assert [data_id for data_id, _ in report.refused] == [{"detector": 25, "physical_filter": G}]
    assert certified(night, "flat") == {
        (1, VR): "20240101T000000Z", (25, VR): "20240101T000000Z", (1, G): "20240201T000000Z",
    }  # fmt: skip


def test_flat_frames_are_counted_by_filter(night, make):
    make("flat", "20240101T000000Z", {"detector": 1, "physical_filter": VR})
    assert certify_calibrations(night, "flat", NIGHT, expected_detectors=(1,), min_frames=2).ok
    assert not certify_calibrations(night, "flat", NIGHT, expected_detectors=(1,), min_frames=3).ok


def test_a_chain_without_masters(night):
    update_chain(night, "bias", NIGHT)
    report = certify_calibrations(night, "bias", NIGHT, expected_detectors=(1,))
    assert report.refused == [({"detector": 1}, "the pipeline made no bias")]


def test_what_cannot_be_certified(night):
    with pytest.raises(SurveyError, match="drp makes no calibrations"):
        certify_calibrations(night, "drp", NIGHT, expected_detectors=(1,))
    with pytest.raises(SurveyError, match="no collection 20190409/bias"):
        certify_calibrations(night, "bias", "20190409", expected_detectors=(1,))


def test_decertify_takes_all_back(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    certify_calibrations(night, "bias", NIGHT, expected_detectors=(1, 25), frames=ENOUGH)
    decertify(night, CALIB, "bias")
    assert certified(night) == {}


@pytest.mark.parametrize(
    ("collection", "dataset", "message"),
    [
        ("none", "raw", "collection none does not exist"),
        ("DECam/raw/all", "raw", "is a RUN"),
        ("DECam/calib", "none", "dataset type none does not exist"),
    ],
)
def test_decertify_what_does_not_exist(night, collection, dataset, message):
    with pytest.raises(SurveyError, match=message):
        decertify(night, collection, dataset)
