"""Certification: detector by detector, from the newest run, leaving the others."""

import numpy as np
import pytest
from lsst.daf.butler import CollectionType, DatasetType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.repository import certify_calibrations, decertify, exclude, find_stale, update_chain
from proc_decam_dagster.repository.certify import VALID_BEGIN, VALID_END, certify_refs, outdated_masters
from proc_decam_dagster.repository.overrides import add_override, approved
from proc_decam_dagster.repository.queries import Master, night_frames

NIGHT = "20190401"
CALIB = f"{NIGHT}/calib/bias"
VR, G = "VR DECam c0007 6300.0 2600.0", "g DECam SDSS c0001 4720.0 1520.0"


def need(*detectors, frames=2, filters=("",)):
    """Return what is expected of each master: the first exposures of the night."""
    return {Master(d, f): set(range(845001, 845001 + frames)) for d in detectors for f in filters}


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


def certify(repo, expected, proc_type="bias", **options):
    return certify_calibrations(repo, proc_type, NIGHT, expected=expected, **{"min_frames": 2} | options)


def test_certified_for_the_whole_survey(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    report = certify(night, need(1, 25))
    assert report.ok and str(report) == f"certified 2 bias into {CALIB}"
    assert report.certified == [{"detector": 1}, {"detector": 25}]
    spans = {str(a.timespan) for a in night.butler().registry.queryDatasetAssociations("bias", [CALIB])}
    assert spans == {"[2000-01-01T00:00:00, 2050-01-01T00:00:00)"}
    # found for an exposure as a task finds it
    assert night.butler().get("bias", detector=25, exposure=845005, instrument="DECam", collections=CALIB)


def test_one_detector_leaves_the_others_certified(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    certify(night, need(1, 25))
    make("bias", "20240201T000000Z", {"detector": 1}, {"detector": 25})
    report = certify(night, need(1))
    assert report.ok and report.kept == 1
    assert certified(night) == {(1,): "20240201T000000Z", (25,): "20240101T000000Z"}


def test_an_incomplete_set_is_withheld_unless_told(night, make):
    make("bias", "20240101T000000Z", {"detector": 1})
    report = certify(night, need(1, 2, 25))
    assert not report.ok and not certified(night)
    assert report.refused == [
        ({"detector": 2}, "the pipeline made no bias"),
        ({"detector": 25}, "the pipeline made no bias"),
    ]
    assert report.withheld == [{"detector": 1}]
    assert "detector 2, 25: the pipeline made no bias (and so 1 good ones are withheld)" in str(report)
    partial = certify(night, need(1, 2, 25), partial=True)
    assert not partial.ok and partial.certified == [{"detector": 1}] and not partial.withheld
    assert certified(night) == {(1,): "20240101T000000Z"}


def test_too_few_frames_are_never_certified(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    expected = need(25) | need(1, frames=1)
    assert certify(night, expected).refused == [
        ({"detector": 1}, "made from 1 frames, expected at least 2 (--min-frames)")
    ]
    assert not certified(night)
    certify(night, expected, partial=True)
    assert certified(night) == {(25,): "20240101T000000Z"}


@pytest.fixture
def frames(night, put):
    """A function that records the frames of a run of step1 as processed."""

    def process(stamp, *exposures, detectors=(1,)):
        run = f"{NIGHT}/bias/bias/step1/{stamp}"
        night.butler(writeable=True).collections.register(run, CollectionType.RUN)
        for exposure in exposures:
            for detector in detectors:
                put(night, "cpBiasIsr_metadata", run, ("instrument", "exposure", "detector"), exposure=exposure,
                    detector=detector)  # fmt: skip
        update_chain(night, "bias", NIGHT)

    return process


def test_what_is_expected_are_the_raws(night):
    assert night_frames(night, NIGHT, "bias", by_filter=False) == need(1, 25)
    one = night_frames(night, NIGHT, "bias", by_filter=False, where="detector=25 AND exposure=845001")
    assert one == need(25, frames=1)
    flats = night_frames(night, NIGHT, "flat", by_filter=True)
    assert flats == {Master(d, VR): {845003, 845004} for d in (1, 25)}
    assert not night_frames(night, "20190409", "bias", by_filter=False)


def test_frames_that_failed_are_not_counted(night, make, frames):
    frames("20231231T000000Z", 845001)
    make("bias", "20240101T000000Z", {"detector": 1})
    assert certify(night, need(1), min_frames=1).refused == [({"detector": 1}, "made from 1 of 2 frames")]
    assert certify(night, need(1), min_frames=1, partial=True).ok


def test_frames_newer_than_the_master_are_not_in_it(night, make, frames):
    frames("20231231T000000Z", 845001)
    make("bias", "20240101T000000Z", {"detector": 1})
    assert not outdated_masters(night, "bias", NIGHT)
    frames("20240102T000000Z", 845002)
    assert list(outdated_masters(night, "bias", NIGHT)) == [Master(1)]
    assert certify(night, need(1), min_frames=1).refused == [({"detector": 1}, "made from 1 of 2 frames")]
    make("bias", "20240103T000000Z", {"detector": 1})
    assert not outdated_masters(night, "bias", NIGHT) and certify(night, need(1)).ok


@pytest.fixture
def combined(night):
    """A function that makes a bias of detector 1 that says what it was combined from."""

    def combine(stamp, exposures, rejected=""):
        butler, run = night.butler(writeable=True), f"{NIGHT}/bias/bias/step2/{stamp}"
        kind = DatasetType(
            "bias", ("instrument", "detector"), "DecamImage", universe=butler.dimensions, isCalibration=True
        )
        butler.registry.registerDatasetType(kind)
        butler.collections.register(run, CollectionType.RUN)
        plane = np.zeros((4, 4), np.float32)
        image = MaskedImage(plane, plane + 1, plane.astype(np.int32))
        image.metadata = {"exposures": exposures, "rejected": rejected}
        butler.put(image, kind, instrument="DECam", detector=1, run=run)
        update_chain(night, "bias", NIGHT)

    return combine


def test_a_master_of_some_of_the_processed_frames_is_not_complete(night, frames, combined):
    frames("20231231T000000Z", 845001, 845002)
    combined("20240101T000000Z", "845001")  # a run with --where "exposure = 845001"
    assert outdated_masters(night, "bias", NIGHT) == {Master(1): "frames were processed since"}
    assert certify(night, need(1), min_frames=1).refused == [({"detector": 1}, "made from 1 of 2 frames")]
    combined("20240102T000000Z", "845001", "845002: noise of amplifier A is 40.2 ADU")
    assert not outdated_masters(night, "bias", NIGHT) and certify(night, need(1)).ok


def test_a_master_with_an_excluded_exposure_is_stale_and_not_certified(night, frames, combined):
    frames("20231231T000000Z", 845001, 845002)
    combined("20240101T000000Z", "845001,845002")
    assert certify(night, need(1)).ok and not find_stale(night)
    exclude(night, "light leak", exposures=[845002])
    (stale,) = find_stale(night)
    assert (stale.data_ids, stale.because) == ([{"detector": 1}], "frames that they hold are left out by now")
    refused = certify(night, need(1, frames=1), min_frames=1, partial=True).refused
    assert refused == [({"detector": 1}, "made with exposure 845002, which the night has no longer")]
    combined("20240102T000000Z", "845001")
    assert not outdated_masters(night, "bias", NIGHT) and certify(night, need(1, frames=1), min_frames=1).ok


@pytest.fixture
def of_level(night):
    """A function that makes a night's bias of detector 1, of a level (ADU) in each amplifier."""

    def make_one(of, *levels):
        butler, run = night.butler(writeable=True), f"{of}/bias/bias/step2/20240101T000000Z"
        kind = DatasetType(
            "bias", ("instrument", "detector"), "DecamImage", universe=butler.dimensions, isCalibration=True
        )
        butler.registry.registerDatasetType(kind)
        butler.collections.register(run, CollectionType.RUN)
        plane = np.repeat(np.array(levels, np.float32), 1024)[None].repeat(1300, axis=0)
        ref = butler.put(MaskedImage(plane, plane * 0 + 1, np.zeros(plane.shape, np.int32)), kind, instrument="DECam",
                         detector=1, run=run)  # fmt: skip
        if of != NIGHT:
            certify_refs(butler, f"{of}/calib/bias", [ref], VALID_BEGIN, VALID_END)
        update_chain(night, "bias", of)

    night.butler(writeable=True).collections.register("20190331/bias/raw", CollectionType.TAGGED)
    night.butler(writeable=True).collections.register("20190330/bias/raw", CollectionType.TAGGED)
    return make_one


def test_a_master_far_from_the_last_good_nights_is_not_certified_unawares(night, of_level):
    of_level("20190331", 1, 2)
    of_level(NIGHT, 3, 52)
    (refused,) = certify(night, need(1), partial=True).refused
    assert "far from that of night 20190331" in refused[1] and "--from own" in refused[1] and not certified(night)
    add_override(night, NIGHT, "bias", "own", why="new electronics")
    assert approved(night, NIGHT, "bias", need(1)) == {Master(1)}
    assert certify(night, need(1), trusted=approved(night, NIGHT, "bias", need(1))).ok and certified(night)


def test_one_of_the_last_nights_is_to_agree(night, of_level):
    of_level("20190330", 3, 50)
    of_level("20190331", 1, 2)
    of_level(NIGHT, 3, 52)
    assert certify(night, need(1)).ok


def test_a_refused_master_keeps_the_last_good_one(night, make):
    make("bias", "20240101T000000Z", {"detector": 1})
    certify(night, need(1))
    make("bias", "20240201T000000Z", {"detector": 1})
    report = certify(night, need(1, frames=1))
    assert (report.ok, report.kept) == (False, 1)
    assert certified(night) == {(1,): "20240101T000000Z"}


def test_each_filter_of_a_flat_is_complete_by_itself(night, make):
    make("flat", "20240101T000000Z", {"detector": 1, "physical_filter": VR}, {"detector": 25, "physical_filter": VR})
    make("flat", "20240201T000000Z", {"detector": 1, "physical_filter": G})
    report = certify(night, need(1, 25, filters=(VR, G)), "flat")
    assert [data_id for data_id, _ in report.refused] == [{"detector": 25, "physical_filter": G}]
    assert report.withheld == [{"detector": 1, "physical_filter": G}]
    assert certified(night, "flat") == {(1, VR): "20240101T000000Z", (25, VR): "20240101T000000Z"}


def test_a_chain_without_masters(night):
    update_chain(night, "bias", NIGHT)
    assert certify(night, need(1)).refused == [({"detector": 1}, "the pipeline made no bias")]


def test_what_cannot_be_certified(night):
    with pytest.raises(SurveyError, match="drp makes no calibrations"):
        certify(night, need(1), "drp")
    with pytest.raises(SurveyError, match="no collection 20190409/bias"):
        certify_calibrations(night, "bias", "20190409", expected=need(1))


def test_decertify_takes_all_back(night, make):
    make("bias", "20240101T000000Z", {"detector": 1}, {"detector": 25})
    certify(night, need(1, 25))
    decertify(night, CALIB, "bias", data_ids=[{"detector": 1}])
    assert list(certified(night)) == [(25,)]
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
