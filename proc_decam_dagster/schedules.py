"""Schedules and their jobs: the upkeep of Dagster's own storage, and of the static pages."""

import dagster as dg
from pydantic import Field

CLEANED = "decam/event_log_cleaned"
"""Tag of the runs whose events were deleted: they are not looked at again."""

PAGE = 200
"""Runs read at once, so that memory does not grow with the age of the survey."""


class CleanUp(dg.Config):
    """Which events are deleted."""

    older_than_days: float = Field(default=30, description="Only those of runs that ended longer ago than this")


@dg.op
def delete_old_events(context: dg.OpExecutionContext, config: CleanUp) -> None:
    """Delete the steps' events and logs of old runs that succeeded.

    What the survey's history is made of stays: materialisations, observations, checks, and when a run started and
    ended. Failed runs keep all of their events.
    """
    from datetime import UTC, datetime, timedelta

    instance = context.instance
    before = datetime.now(UTC) - timedelta(days=config.older_than_days)
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_before=before)
    runs = events = 0
    cursor = None
    while records := instance.get_run_records(wanted, limit=PAGE, cursor=cursor):
        cursor = records[-1].dagster_run.run_id
        for record in records:
            run = record.dagster_run
            if CLEANED in run.tags:
                continue
            events += _delete_events(instance, run.run_id)
            instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            instance.add_run_tags(run.run_id, {CLEANED: f"{datetime.now(UTC):%Y-%m-%d}"})
            runs += 1
        context.log.info(f"{events} events of {runs} runs that ended before {before:%Y-%m-%d} deleted")


def _delete_events(instance: dg.DagsterInstance, run_id: str) -> int:
    """Delete what only tells how a run went, and return how many events that were.

    Dagster offers the deletion of whole runs only, with the materialisations that they made.
    """
    import sqlalchemy as sa
    from dagster._core.events import ASSET_CHECK_EVENTS, PIPELINE_EVENTS
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

    storage, columns = instance.event_log_storage, SqlEventLogStorageTable.c
    passing = sa.or_(
        columns.dagster_event_type.is_(None),  # log lines
        columns.dagster_event_type.not_in([event.value for event in PIPELINE_EVENTS | ASSET_CHECK_EVENTS]),
    )
    delete = sa.delete(SqlEventLogStorageTable).where(
        columns.run_id == run_id, columns.asset_key.is_(None), passing
    )  # fmt: skip
    with storage.run_connection(run_id) as connection:
        deleted = connection.execute(delete).rowcount
    if isinstance(storage, SqliteEventLogStorage) and deleted:
        # A run's events are a file of their own, which only this makes smaller; Postgres does it by itself.
        with storage.run_connection(run_id) as connection:
            connection.commit()
            connection.connection.driver_connection.execute("VACUUM")
    return deleted


# The settings of the definitions' other resources do not concern it, nor do the survey's pools.
@dg.job(executor_def=dg.in_process_executor, description=delete_old_events.description)
def event_log_clean_up() -> None:
    """One op."""
    delete_old_events()


SCHEDULES = [
    dg.ScheduleDefinition(
        name="event_log_clean_up_daily", job=event_log_clean_up, cron_schedule="0 12 * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Keeps Dagster's storage small; off until someone turns it on.",
    ),
    dg.ScheduleDefinition(
        name="pages_daily", target=dg.AssetSelection.assets("survey_page"), cron_schedule="0 15 * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Brings the static pages of the survey and its nights up to date; off until someone turns it on.",
    ),
]  # fmt: skip
JOBS = [event_log_clean_up]
