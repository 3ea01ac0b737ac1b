"""Steps one after the other, and the certification."""

import pytest
from toy.repository import PIPELINES, add_night

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import TaskCounts, run_pipeline
from proc_decam_dagster.repository.overrides import add_override
from proc_decam_dagster.repository.queries import find_certified, source_night
from proc_decam_dagster.repository.substitutes import calibrations_used

NIGHT = "20190402"


@pytest.fixture
def run(repository, pool):
    add_night(repository, NIGHT, "bias", range(201, 206), detectors=(1, 2, 3))

    def run(**options):
        return run_pipeline(repository, "bias", NIGHT, pool=pool, pipeline_dir=str(PIPELINES), **options)

    return run


def certified(repository):
    return [ref.dataId["detector"] for ref in find_certified(repository, "bias", f"{NIGHT}/calib/bias")]


def test_all_steps_then_certification(run, repository):
    report = run()
    assert report.ok and [s.step for s in report.steps] == ["step1", "step2"]
    assert report.quanta == 15 + 3 and not report.stopped and report.peak_rss_gb > 0
    assert sorted(certified(repository)) == [1, 2, 3]
    again = run()
    assert again.ok and again.quanta == 0


def frames_of_master(repository):
    """Return the number of frames in the bias of detector 2 that a task would be given."""
    data_id = {"instrument": "DECam", "detector": 2, "exposure": 201}
    return repository.butler().get("bias", data_id, collections=f"{NIGHT}/calib/bias")["frames"]


BAD = {"cpBiasIsr:bad": [2], "cpBiasIsr:mode": "error"}


def test_calibrations_with_failures_are_not_combined_and_not_certified(run, repository):
    report = run(config=BAD)
    assert not report.ok and [s.step for s in report.steps] == ["step1"]
    assert "stopped at step1, where 5 of 15 quanta did not succeed" in report.stopped
    assert "toy failure" in report.why_not and "--partial" in report.why_not
    assert report.certified is None and not certified(repository)

    mended = run(retry_failed=True)
    assert mended.ok and mended.quanta == 5 + 3 and sorted(certified(repository)) == [1, 2, 3]


def test_what_succeeded_is_certified_when_asked_for(run, repository):
    report = run(config=BAD, partial=True)
    assert not report.ok and not report.stopped
    assert report.steps[0].tasks["cpBiasIsr"] == TaskCounts(succeeded=10, failed=5)
    assert report.steps[1].tasks["cpBiasCombine"] == TaskCounts(succeeded=2)
    assert sorted(certified(repository)) == [1, 3]
    assert report.certified.refused == [({"detector": 2}, "the pipeline made no bias")]
    assert "not certified: detector 2: the pipeline made no bias" in report.why_not

    mended = run(where="detector=2", retry_failed=True)
    assert mended.ok and sorted(certified(repository)) == [1, 2, 3]


def test_a_master_is_made_anew_when_frames_have_been_added(run, repository):
    lacks_one = BAD | {"cpBiasIsr:badExposures": [201]}
    report = run(config=lacks_one, partial=True, min_frames=4)
    assert sorted(certified(repository)) == [1, 2, 3]  # as asked for, detector 2 of 4 frames
    assert not report.ok and frames_of_master(repository) == 4

    mended = run(retry_failed=True)
    assert mended.ok and mended.quanta == 1 + 3
    assert frames_of_master(repository) == 5
    assert run().quanta == 0


def test_where_everything_failed_the_rest_is_not_run(run, repository):
    report = run(config={"cpBiasIsr:bad": [1, 2, 3], "cpBiasIsr:mode": "error"})
    assert not report.ok and "stopped at step1" in report.stopped and "toy failure" in report.stopped
    assert len(report.steps) == 1 and report.certified is None and not certified(repository)


def test_steps_may_be_chosen(run, repository):
    assert [s.step for s in run(steps="1").steps] == ["step1"] and not certified(repository)
    report = run(steps=["step2"])
    assert [s.step for s in report.steps] == ["step2"] and sorted(certified(repository)) == [1, 2, 3]


def test_first_step_without_inputs_raises(repository, pool):
    with pytest.raises(SurveyError, match="20190402/bias/raw"):
        run_pipeline(repository, "bias", NIGHT, pool=pool, pipeline_dir=str(PIPELINES))
    add_night(repository, NIGHT, "bias", [201])
    with pytest.raises(SurveyError, match="holds no added"):
        run_pipeline(repository, "bias", NIGHT, pool=pool, pipeline_dir=str(PIPELINES), steps="2")


def test_report_is_json_friendly(run):
    import json

    text = json.dumps(run(config={"cpBiasIsr:bad": [2], "cpBiasIsr:mode": "error"}).to_dict())
    assert '"ok": false' in text and "RuntimeError" in text


def test_an_override_holds_when_the_nights_own_are_made_again(run, repository, pool):
    add_night(repository, "20190403", "bias", range(301, 306), detectors=(1, 2, 3))
    assert run_pipeline(repository, "bias", "20190403", pool=pool, pipeline_dir=str(PIPELINES)).ok
    assert run().ok
    add_override(repository, NIGHT, "bias", "20190403", (2,), "tape bump")
    again = run(steps="2", skip_existing=False)
    assert again.ok and again.certified.kept == 1 and not again.certified.replaced
    sources = {r.dataId["detector"]: source_night(r) for r in find_certified(repository, "bias", f"{NIGHT}/calib/bias")}
    assert sources == {1: NIGHT, 2: "20190403", 3: NIGHT}
    add_override(repository, NIGHT, "bias", "own", (2,))
    assert calibrations_used(repository, NIGHT, "bias") == "own" and sorted(certified(repository)) == [1, 2, 3]
