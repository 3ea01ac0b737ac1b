"""The list of calibration overrides: kept by people, carried out, taken back."""

import pytest
import yaml

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.overrides import FILE, add_override, apply_overrides, overridden, read_overrides
from proc_decam_dagster.repository.queries import Master
from proc_decam_dagster.repository.substitutes import calibrations_used, provide_calibrations, substitutes_recorded
from proc_decam_dagster.survey.calibration_policy import CalibrationPolicy

NIGHT, BEFORE = "20190401", "20190330"


def test_one_detector_of_another_night(night, masters):
    masters(NIGHT), masters(BEFORE)
    (done,) = add_override(night, NIGHT, "bias", BEFORE, (25,), "tape bump")
    assert done == f"night {NIGHT}: bias of detectors 25 from night {BEFORE}"
    assert calibrations_used(night, NIGHT, "bias") == f"own, {BEFORE} (2 days earlier) for detector 25"
    (override,) = read_overrides(night)
    assert (override.detectors, override.source, override.why) == ((25,), BEFORE, "tape bump")
    assert override.who and override.when
    assert substitutes_recorded(night)[0]["why"] == "override: tape bump"
    assert apply_overrides(night, NIGHT, "bias") == []  # done before
    assert overridden(night, NIGHT, "bias", [Master(1), Master(25)]) == {Master(25)}


def test_later_entries_win_and_own_takes_back(night, masters):
    masters(NIGHT), masters(BEFORE), masters("20190405")
    add_override(night, NIGHT, "bias", BEFORE)
    add_override(night, NIGHT, "bias", "20190405", (1,))
    assert "20190405 (4 days later) for detector 1" in calibrations_used(night, NIGHT, "bias")
    add_override(night, NIGHT, "bias", "own", (1,))
    assert calibrations_used(night, NIGHT, "bias") == f"{BEFORE} (2 days earlier)"  # 1 has none: made from 2 frames
    assert len(read_overrides(night)) == 3


def test_an_edit_by_hand_is_honoured(night, masters):
    masters(NIGHT), masters(BEFORE)
    path = night.state_dir / FILE
    path.write_text(yaml.safe_dump([{"night": NIGHT, "dataset": "bias", "detectors": [1], "from": int(BEFORE)}]))
    assert apply_overrides(night, NIGHT, "bias") == [f"night {NIGHT}: bias of detectors 1 from night {BEFORE}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {night: x", "cannot be read"),
        ("night: 20190401", "holds no list"),
        ("- {night: 20190401, dataset: bias}", "entry 1 of .* expected a mapping of night, dataset"),
        ("- {night: 20190401, dataset: dark, from: 20190402}", "is about 'dark'"),
        ("- {night: 20190401, dataset: bias, from: 20190401}", "from itself"),
        ("- {night: 20190401, dataset: bias, from: 20190402, detectors: [S29]}", "a list of numbers"),
        ("- {night: 20190401, dataset: bias, from: 20190402, detectors: 31}", "entry 1 of .* has detectors 31"),
    ],
)
def test_a_list_that_is_not_understood(night, text, message):
    (night.state_dir / FILE).write_text(text)
    with pytest.raises(SurveyError, match=message):
        apply_overrides(night, NIGHT, "bias")


def test_a_night_without_masters_is_refused_and_nothing_added(night, masters):
    masters(BEFORE, detectors=(1,))
    with pytest.raises(SurveyError, match="of its own of detectors 25"):
        add_override(night, NIGHT, "bias", BEFORE, (25,))
    with pytest.raises(SurveyError, match="no certified bias of its own;"):
        add_override(night, NIGHT, "bias", "20190409")
    assert not read_overrides(night)


def test_one_wrong_type_keeps_all_from_being_done(night, masters):
    masters(NIGHT), masters(BEFORE)
    for types, said in ((["bias", "flta"], "'flta'"), (["bias", "flat"], "no certified flat")):
        with pytest.raises(SurveyError, match=said):
            add_override(night, NIGHT, types, BEFORE)
    assert not read_overrides(night) and calibrations_used(night, NIGHT, "bias") == "own"


def test_taking_back_does_not_forbid_a_later_substitute(night, masters):
    masters(NIGHT), masters(BEFORE), masters(NIGHT, "flat")
    add_override(night, NIGHT, "bias", BEFORE)
    add_override(night, NIGHT, "bias", "own")
    assert calibrations_used(night, NIGHT, "bias") == "none"  # its own are of too few frames
    provide_calibrations(night, NIGHT, "drp", CalibrationPolicy.of([BEFORE]))
    assert apply_overrides(night, NIGHT, "bias") == []
    assert calibrations_used(night, NIGHT, "bias") == f"{BEFORE} (2 days earlier)"
