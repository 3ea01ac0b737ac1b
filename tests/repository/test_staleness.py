"""What is stale: products older than what they are made from, and the commands that make them anew."""

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import exclude, find_stale, update_chain
from proc_decam_dagster.repository.certify import certify_refs
from proc_decam_dagster.repository.overrides import add_override
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import run_name

NIGHT = "20190401"
VISIT = 845005
EARLY, LATE = "20190402T000001Z", "20190403T000001Z"
CALIBRATION = ("instrument", "detector")


@pytest.fixture
def make(night, put):
    """A function that puts a product into a RUN of a chain, made at some time."""

    def make_product(name, chain, stamp, dimensions, **options):
        run = f"{chain}/step/{stamp}"
        night.butler(writeable=True).collections.register(run)
        return put(night, name, run, dimensions, **options)

    return make_product


@pytest.fixture
def calibrated(night, make):
    """The night with calibrated exposures of two CCDs, made with a bias that is older."""
    biases = [
        make(datasets.BIAS, f"{NIGHT}/bias", EARLY, CALIBRATION, is_calibration=True, detector=d) for d in (1, 25)
    ]
    certify_refs(night.butler(writeable=True), f"{NIGHT}/calib/bias", biases)
    for detector in (1, 25):
        make(datasets.CALEXP, f"{NIGHT}/drp", "20190402T120000Z", ("instrument", "visit", "detector"),
             visit=VISIT, detector=detector)  # fmt: skip
    update_chain(night, "bias", NIGHT)
    update_chain(night, "drp", NIGHT)
    return night


def test_nothing_is_stale_when_all_is_in_order(calibrated):
    assert find_stale(calibrated) == []


def test_a_newer_bias_makes_its_ccd_stale_and_no_other(calibrated, make):
    new = make(datasets.BIAS, f"{NIGHT}/bias", LATE, CALIBRATION, is_calibration=True, detector=25)
    certify_refs(calibrated.butler(writeable=True), f"{NIGHT}/calib/bias", [new])
    (stale,) = find_stale(calibrated, f"{NIGHT}/*")
    assert (stale.chain, stale.dataset) == (f"{NIGHT}/drp", datasets.CALEXP)
    assert stale.data_ids == [{"detector": 25, "visit": VISIT}] and stale.because == "another bias is certified since"
    assert stale.command.endswith(f" drp {NIGHT} --no-skip-existing")  # it is the night's only visit


def test_a_bias_that_is_older_but_taken_since_makes_its_ccd_stale(calibrated, make):
    """By an override: the other night's master is not newer than the exposures."""
    other = "20190330"
    older = make(datasets.BIAS, f"{other}/bias", "20190401T000001Z", CALIBRATION, is_calibration=True, detector=25)
    certify_refs(calibrated.butler(writeable=True), f"{other}/calib/bias", [older])
    add_override(calibrated, NIGHT, "bias", other, (25,), "tape bump")

    def stale() -> list:
        return [(s.because, s.data_ids) for s in find_stale(calibrated, f"{NIGHT}/drp")]

    taken = [("another bias is certified since", [{"detector": 25, "visit": VISIT}])]
    assert stale() == taken
    made = run_name(f"{NIGHT}/drp", "DRP", "step1").rpartition("/")[2]
    make(datasets.CALEXP, f"{NIGHT}/drp", made, ("instrument", "visit", "detector"), visit=VISIT, detector=25)
    update_chain(calibrated, "drp", NIGHT)
    assert stale() == []


def test_what_has_an_amplifier_masked_since_is_stale(calibrated):
    exclude(calibrated, "gain", detectors=[25], amplifier="A")
    reasons = {s.because: s.data_ids for s in find_stale(calibrated)}
    assert reasons == {"amplifier A is masked since": [{"detector": 25, "visit": VISIT}]}


def test_what_the_list_leaves_out_is_not_stale_as_nothing_makes_it_anew(calibrated, make):
    new = make(datasets.BIAS, f"{NIGHT}/bias", LATE, CALIBRATION, is_calibration=True, detector=25)
    certify_refs(calibrated.butler(writeable=True), f"{NIGHT}/calib/bias", [new])
    exclude(calibrated, "clouds", exposures=[VISIT], detectors=[25])
    assert not find_stale(calibrated)


def test_a_difference_is_stale_when_its_exposure_was_made_anew(calibrated, make):
    chain = f"{NIGHT}/2019/mean/diff_drp"
    for visit in (VISIT, VISIT + 1):
        make(datasets.named(datasets.DIFFERENCE), chain, "20190402T130000Z", ("instrument", "visit", "detector"),
             visit=visit, detector=1)  # fmt: skip
    butler = calibrated.butler(writeable=True)
    butler.collections.register(chain, CollectionType.CHAINED)
    butler.collections.redefine_chain(chain, [f"{chain}/step/20190402T130000Z"])
    assert not find_stale(calibrated)
    make(datasets.CALEXP, f"{NIGHT}/drp", LATE, ("instrument", "visit", "detector"), visit=VISIT, detector=1)
    update_chain(calibrated, "drp", NIGHT)
    (stale,) = find_stale(calibrated)
    assert stale.because == "their visits were calibrated anew" and stale.chain == chain
    begin = f"proc-decam pipeline {calibrated.root} diff_drp {NIGHT} --coadd-subset 2019 --template-type mean --steps"
    assert stale.command.split(" && ") == [  # what takes all visits together is made of all of them
        f'{begin} 4a,4b,4c --where "visit IN ({VISIT})" --no-skip-existing', f"{begin} 4d,4e --no-skip-existing",
    ]  # fmt: skip


def test_a_pattern_that_matches_nothing_is_told(calibrated):
    with pytest.raises(SurveyError, match="no processing chain matches"):
        find_stale(calibrated, "2030*")
