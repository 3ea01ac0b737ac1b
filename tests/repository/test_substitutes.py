"""Another night's masters in place of missing ones: found, certified, recorded, and replaced by the night's own."""

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import certify_calibrations, update_chain
from proc_decam_dagster.repository.queries import Master, find_certified
from proc_decam_dagster.repository.substitutes import (
    calibrations_needed,
    calibrations_used,
    provide_calibrations,
    require_calibrations,
    substitutes_recorded,
)
from proc_decam_dagster.survey.calibration_policy import CalibrationPolicy

NIGHT, BEFORE, AFTER = "20190401", "20190330", "20190405"
BIAS = ("instrument", "detector")


def runs(repo, name="bias"):
    """Return detector → the night whose master is found for an exposure, as a task finds it."""
    found = {}
    for ref in find_certified(repo, name, f"{NIGHT}/calib/{name}"):
        used = repo.butler().find_dataset(
            name, ref.dataId, collections=f"{NIGHT}/drp", timespan=repo.butler().query_dimension_records(
                "exposure", where="instrument='DECam' AND exposure=845005")[0].timespan,
        )  # fmt: skip
        found[ref.dataId["detector"]] = used.run.partition("/")[0]
    return found


def test_calibrations_needed_are_those_of_the_input_chain():
    assert calibrations_needed("bias") == calibrations_needed("diff_drp") == []
    assert calibrations_needed("flat") == ["bias"]
    assert calibrations_needed("science") == ["bias", "flat"]


def test_missing_masters_stop_and_the_nearest_nights_are_named(night, masters):
    for of in ("20190310", BEFORE, AFTER):
        masters(of)
    masters("20190406", "flat", detectors=(1,))
    with pytest.raises(SurveyError) as error:
        provide_calibrations(night, NIGHT, "drp")
    said = str(error.value)
    assert "night 20190401 has no certified bias and no flat" in said
    assert "bias: nearest usable 20190330 (2 days earlier) and 20190405 (4 days later)" in said
    assert "flat: nearest usable 20190406 (5 days later, 1 of 2)" in said
    assert "--calib-from bias=20190330 --calib-from flat=20190406" in said
    assert "--calib-policy nearest --calib-within 5" in said and "--proc-type bias" in said
    assert not substitutes_recorded(night)


def test_no_night_has_one(night):
    with pytest.raises(SurveyError, match="bias: no night has one") as error:
        provide_calibrations(night, NIGHT, "flat")
    assert "--calib-from" not in str(error.value)


def test_what_is_lacking_is_told_before_anything_is_changed(night, masters):
    """Of raws that are not tagged, or not even ingested; with a policy that has all, or a part."""
    masters(BEFORE)
    masters(BEFORE, "flat", detectors=(1,))
    nearest = CalibrationPolicy.of(policy="nearest", within_days=4)
    science = {"exposures": [845005, 845006], "bands": {"VR"}}
    with pytest.raises(SurveyError, match="no certified bias and no flat"):
        require_calibrations(night, NIGHT, "drp", **science)
    with pytest.raises(SurveyError, match="no certified flat of detector 25 in VR; .* no night has one"):
        require_calibrations(night, NIGHT, "drp", nearest, **science)
    with pytest.raises(SurveyError, match="no certified flat"):
        provide_calibrations(night, NIGHT, "drp", nearest)
    require_calibrations(night, NIGHT, "drp", nearest, where="detector=1", **science)
    require_calibrations(night, NIGHT, "drp", nearest, partial=True, **science)
    # Exposures that nobody has ingested may need any master of their bands.
    with pytest.raises(SurveyError, match="no certified bias and no flat"):
        require_calibrations(night, NIGHT, "drp", exposures=[9], bands={"VR"})
    require_calibrations(night, NIGHT, "drp", nearest, exposures=[9], bands={"VR", "g"})
    with pytest.raises(SurveyError, match="no certified flat"):
        require_calibrations(night, NIGHT, "drp", nearest, exposures=[9], bands={"g"})
    assert not substitutes_recorded(night) and not find_certified(night, "bias", f"{NIGHT}/calib/bias")


def test_a_named_night_is_used_and_recorded(night, masters):
    masters(BEFORE), masters(AFTER)
    masters(NIGHT, "flat")
    update_chain(night, "drp", NIGHT)
    used = provide_calibrations(night, NIGHT, "drp", CalibrationPolicy.of([AFTER]))
    assert used == {"bias": "20190405 (4 days later)", "flat": "own"}
    assert runs(night) == {1: AFTER, 25: AFTER} and runs(night, "flat") == {1: NIGHT, 25: NIGHT}
    (record,) = substitutes_recorded(night)
    assert (record["night"], record["dataset"], record["from"], record["days"]) == (NIGHT, "bias", AFTER, 4)
    assert record["masters"] == [{"detector": 1}, {"detector": 25}] and record["who"] and record["when"]
    assert record["why"] == "missing; bias from 20190405, flat from 20190405"
    doc = night.butler().registry.getCollectionDocumentation(f"{NIGHT}/calib/bias")
    assert doc == "bias of night 20190401: 20190405 (4 days later)"
    provide_calibrations(night, NIGHT, "drp", CalibrationPolicy.of([BEFORE]))  # nothing is missing any more
    assert len(substitutes_recorded(night)) == 1


def test_nearest_within_days_for_each_detector(night, masters):
    masters(NIGHT, "flat"), masters(NIGHT, detectors=())
    masters(BEFORE, detectors=(1,)), masters(AFTER), masters("20190301")
    with pytest.raises(SurveyError, match="no certified bias of detector 25; expected.*20190405 .4 days later"):
        provide_calibrations(night, NIGHT, "drp", CalibrationPolicy.of(policy="nearest", within_days=2))
    used = provide_calibrations(night, NIGHT, "drp", CalibrationPolicy.of(policy="nearest", within_days=4))
    assert used["bias"] == "20190330 (2 days earlier) for detector 1, 20190405 (4 days later) for detector 25"


def test_part_of_the_raws_is_enough_when_asked_for(night, masters):
    masters(NIGHT, "flat"), masters(NIGHT, detectors=(25,))
    with pytest.raises(SurveyError, match="no certified bias of detector 1;"):
        provide_calibrations(night, NIGHT, "drp")
    assert provide_calibrations(night, NIGHT, "drp", partial=True) == {"bias": "own", "flat": "own"}
    assert provide_calibrations(night, NIGHT, "drp", where="detector=25") == {"bias": "own", "flat": "own"}
    with pytest.raises(SurveyError, match="no certified bias of detector 1;"):
        provide_calibrations(night, NIGHT, "drp", where="detector=1", partial=True)


def test_a_flat_of_another_filter_is_none(night, masters):
    masters(NIGHT), masters(NIGHT, "flat", filters=["g DECam SDSS c0001 4720.0 1520.0"])
    with pytest.raises(SurveyError, match="no certified flat of detectors 1, 25 in VR"):
        provide_calibrations(night, NIGHT, "drp")


def test_a_substitute_is_no_candidate(night, masters):
    masters(AFTER), masters(NIGHT, "flat")
    provide_calibrations(night, NIGHT, "drp", CalibrationPolicy.of([AFTER]))
    masters("20190402", "flat")
    night.butler(writeable=True).collections.register("20190402/flat/raw", CollectionType.TAGGED)
    raws = night.butler().query_datasets("raw", f"{NIGHT}/flat/raw")
    night.butler(writeable=True).registry.associate("20190402/flat/raw", raws)
    with pytest.raises(SurveyError, match="nearest usable 20190405"):
        provide_calibrations(night, "20190402", "flat")


def test_the_nights_own_masters_take_their_place_again(night, masters, put):
    masters(BEFORE), masters(NIGHT, "flat")
    provide_calibrations(night, NIGHT, "drp", CalibrationPolicy.of([BEFORE]))
    run = f"{NIGHT}/bias/bias/step2/20240301T000000Z"
    night.butler(writeable=True).collections.register(run, CollectionType.RUN)
    for detector in (1, 25):
        put(night, "bias", run, BIAS, True, detector=detector)
    update_chain(night, "bias", NIGHT)
    update_chain(night, "drp", NIGHT)
    expected = dict.fromkeys((Master(1), Master(25)), {845001, 845002})
    report = certify_calibrations(night, "bias", NIGHT, expected=expected, min_frames=2)
    assert report.ok and report.replaced == [BEFORE]
    assert calibrations_used(night, NIGHT, "bias") == "own" and runs(night) == {1: NIGHT, 25: NIGHT}
