"""The launch forms: sensible defaults, choices, and what free text comes to."""

import pytest

from proc_decam_dagster.assets.forms import Calibrated, Calibration, Processing, detectors_where, form_of
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.calibration_policy import OWN
from proc_decam_dagster.survey.proc_types import MIN_FRAMES, PROC_TYPES


@pytest.mark.parametrize(
    ("text", "where"),
    [("", ""), ("31", "detector IN (31)"), ("1..4, 31", "detector IN (1..4, 31)"), ("1 2", "detector IN (1, 2)")],
)
def test_detectors_become_an_expression(text, where):
    assert detectors_where(text) == where


@pytest.mark.parametrize("text", ["0", "63", "4..1", "S29", "1-4", "1..", "1;2"])
def test_what_is_no_detector_is_refused(text):
    with pytest.raises(SurveyError, match="names no CCD; expected numbers and ranges of 1 to 62"):
        _ = Processing(detectors=text).query


def test_detectors_and_where_go_together():
    assert Processing().query == ""
    assert Processing(where=" exposure > 3 ").query == "exposure > 3"
    both = Processing(where="exposure = 3 OR exposure = 4", detectors="1..2")
    assert both.query == "(exposure = 3 OR exposure = 4) AND (detector IN (1..2))"


def test_steps_are_those_of_the_pipeline():
    for name, row in PROC_TYPES.items():
        form = form_of(name, Processing)
        assert form().steps == []
        (choices,) = form.model_fields["steps"].annotation.__args__
        assert choices.__name__ == f"Step[{', '.join(row.steps)}]"  # a launch dialog says it of a step that is none
        assert row.select_steps(",".join(form(steps=[row.steps[-1]]).steps)) == [row.steps[-1]]
        with pytest.raises(ValueError, match="steps"):
            form(steps=["step9"])


def test_masters_need_frames_as_many_as_on_the_command_line():
    for name, row in PROC_TYPES.items():
        form = form_of(name, Calibrated)
        assert (getattr(form(), "min_frames", None) == str(MIN_FRAMES)) == bool(row.certifies)
    assert form_of("bias", Calibration)(min_frames="2").min_frames == "2"
    with pytest.raises(ValueError, match="min_frames"):
        form_of("bias", Calibration)(min_frames="none")


def test_the_policy_of_the_launch_dialog():
    assert Calibrated().policy() == OWN
    assert Calibrated(calibrations="nearest", calibrations_within="3 days").policy().within_days == 3
    assert Calibrated(calibrations_from="bias=20190402,flat=20190405").policy().nights["flat"] == "20190405"


def test_a_night_that_is_none_is_refused():
    with pytest.raises(SurveyError, match="'2019' is no night; expected a date written YYYYMMDD"):
        Calibrated(calibrations_from="2019").policy()
