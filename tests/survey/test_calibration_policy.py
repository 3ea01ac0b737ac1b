"""The policy on missing calibrations, from the words that people type."""

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.calibration_policy import OWN, CalibrationPolicy, days_apart, distance


def test_own_provides_nothing():
    assert not OWN.provides("bias") and not OWN.provides("flat") and str(OWN) == "own"
    assert CalibrationPolicy.of() == OWN


def test_a_night_for_all_or_for_one():
    assert CalibrationPolicy.of(["20190402"]).nights == {"bias": "20190402", "flat": "20190402"}
    policy = CalibrationPolicy.of(["bias=20190402"])
    assert policy.provides("bias") and not policy.provides("flat") and str(policy) == "bias from 20190402"


def test_nearest_within_days():
    policy = CalibrationPolicy.of(["flat=20190402"], "nearest", 3)
    assert policy.provides("bias") and str(policy) == "flat from 20190402, nearest within 3 days"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((["20191301"],), "'20191301' is no night"),
        ((["dark=20190402"],), "calibration 'dark' is unknown; expected one of bias, flat"),
        ((["20190402", "bias=20190403"],), "bias is to come from 20190402 and from 20190403"),
        (([], "own", 0), "within 0 days"),
        (([], "any"), "policy 'any' is unknown; expected one of own, nearest"),
    ],
)
def test_what_is_not_understood(words, message):
    with pytest.raises(SurveyError, match=message):
        CalibrationPolicy.of(*words)


def test_distance_counts_nights_across_months():
    assert days_apart("20190331", "20190401") == 1 and distance("20190331", "20190401") == "1 day later"
    assert distance("20190301", "20190227") == "2 days earlier"
