"""What is told of a run that failed: the assets, the partition, the cause and what to do next."""

import dagster as dg
import pytest

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.sensors.failures import LONGEST, facts_of, failures


@pytest.fixture
def failed():
    """Return a function that fails an asset in a run, and returns the context that Dagster then gives the sensor."""
    with dg.DagsterInstance.ephemeral() as instance:

        def run(compute) -> dg.RunFailureSensorContext:
            asset = survey_asset(name="bias", partitions_def=dg.StaticPartitionsDefinition(["20190401"]))(compute)
            job = dg.Definitions([asset]).resolve_implicit_global_asset_job_def()
            result = job.execute_in_process(instance=instance, partition_key="20190401", raise_on_error=False)
            event = next(e for e in result.all_events if e.event_type is dg.DagsterEventType.PIPELINE_FAILURE)
            return dg.build_run_status_sensor_context(
                "failures", dagster_event=event, dagster_instance=instance, dagster_run=result.dagster_run
            ).for_run_failure()

        yield run


def test_a_mistake_says_what_to_do_next(failed, monkeypatch):
    monkeypatch.setenv("PROC_DECAM_UI_URL", "http://survey:3000/")

    def bias():
        raise SurveyError("no zeros", "5 frames", "proc-decam download")

    facts = facts_of(failed(bias))
    assert facts["partition"] == "20190401" and facts["cause"] == "no zeros; expected 5 frames; proc-decam download"
    assert facts["next"] == "what to do next: proc-decam download"
    assert facts["link"] == f"http://survey:3000/runs/{facts['run']}"


def test_an_unexpected_error_is_told_in_bounds(failed, monkeypatch):
    monkeypatch.delenv("PROC_DECAM_UI_URL", raising=False)

    def bias():
        raise RuntimeError("x" * 5000)

    facts = facts_of(failed(bias))
    assert facts["cause"].startswith("RuntimeError: xxx") and len(facts["cause"]) == LONGEST
    assert facts["next"] == facts["link"] == ""


def test_who_is_configured_is_told(failed, monkeypatch, web):
    def bias():
        raise SurveyError("no zeros")

    monkeypatch.setenv("PROC_DECAM_WEBHOOK", web.url)
    failures(failed(bias))
    ((_, body),) = web.got
    assert body["cause"] == "no zeros" and body["partition"] == "20190401"
