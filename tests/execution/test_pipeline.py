"""Steps one after the other, and the certification."""

import pytest
from toy.repository import PIPELINES, add_night

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import TaskCounts, run_pipeline
from proc_decam_dagster.repository.queries import find_certified

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


def test_a_step_with_failures_does_not_keep_the_others_from_going_on(run, repository):
    config = {"cpBiasIsr:bad": [2], "cpBiasIsr:mode": "error"}
    report = run(config=config)
    assert not report.ok and not report.stopped
    assert report.steps[0].tasks["cpBiasIsr"] == TaskCounts(succeeded=10, failed=5)
    assert report.steps[1].tasks["cpBiasCombine"] == TaskCounts(succeeded=2)
    assert sorted(certified(repository)) == [1, 3]
    assert [d["detector"] for d, _ in report.certified.refused] == [2]

    mended = run(where="detector=2", retry_failed=True)
    assert mended.ok and sorted(certified(repository)) == [1, 2, 3]


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
