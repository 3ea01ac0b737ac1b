"""The clean-up of Dagster's event log, on storage as a survey has it."""

import dagster as dg
import pytest

from proc_decam_dagster.schedules import CLEANED, SCHEDULES, event_log_clean_up

NIGHTS = dg.StaticPartitionsDefinition(["20190401", "20190402"])


@dg.asset(partitions_def=NIGHTS)
def night(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    for step in range(20):
        context.log.info(f"step {step}")
    if context.has_tag("fail"):
        raise dg.Failure("as asked")
    return dg.MaterializeResult(metadata={"seeing": 1.1})


@dg.asset_check(asset=night)
def good(context) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def run(instance):
    """Return a function that materialises a night."""
    job = dg.Definitions([night], asset_checks=[good]).resolve_implicit_global_asset_job_def()

    def materialise(partition: str, **tags: str) -> str:
        return job.execute_in_process(
            instance=instance, partition_key=partition, tags=tags, raise_on_error=False
        ).run_id  # fmt: skip

    return materialise


def clean_up(instance, days: float):
    config = {"ops": {"delete_old_events": {"config": {"older_than_days": days}}}}
    assert event_log_clean_up.execute_in_process(instance=instance, run_config=config).success


def size(instance, run_id: str) -> int:
    return len(instance.all_logs(run_id))


def test_old_events_go_and_the_history_of_the_assets_stays(instance, run):
    old, failed = run("20190401"), run("20190402", fail="yes")
    before, of_failed = size(instance, old), size(instance, failed)
    clean_up(instance, days=0)
    assert size(instance, old) < before / 3
    assert size(instance, failed) == of_failed
    assert instance.get_materialized_partitions(night.key) == {"20190401"}
    (record,) = instance.fetch_materializations(night.key, limit=5).records
    assert record.asset_materialization.metadata["seeing"].value == 1.1
    checks = instance.event_log_storage.get_asset_check_execution_history(good.check_key, limit=5)
    check = next(c for c in checks if c.run_id == old)
    assert check.event.dagster_event.event_specific_data.passed
    kept = {e.dagster_event.event_type_value for e in instance.all_logs(old) if e.is_dagster_event}
    assert {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION", "PIPELINE_START", "PIPELINE_SUCCESS"} <= kept
    assert CLEANED in instance.get_run_by_id(old).tags


def test_recent_runs_keep_all(instance, run):
    recent = run("20190401")
    before = size(instance, recent)
    clean_up(instance, days=1)
    assert size(instance, recent) == before and CLEANED not in instance.get_run_by_id(recent).tags


def test_it_is_off_until_someone_turns_it_on():
    assert {s.default_status for s in SCHEDULES} == {dg.DefaultScheduleStatus.STOPPED}
