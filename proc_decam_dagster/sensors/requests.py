"""Requested runs that failed are requested again, a bounded number of times, later each time."""

import time
from collections.abc import Iterable

import dagster as dg

RUN_KEY_TAG = "dagster/run_key"
"""With this tag Dagster marks the run of a request."""

TRIES = 3
WAIT_SECONDS = 600.0
"""Before the second try; twice as long before the third. An archive that is down is not up in a minute."""

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


def records_of(instance: dg.DagsterInstance, keys: Iterable[str]) -> dict[str, dg.RunRecord]:
    """Return the newest run of each request, by run key; requests that have no run yet are left out."""
    keys = list(keys)
    if not keys:
        return {}
    found = instance.get_run_records(dg.RunsFilter(tags={RUN_KEY_TAG: keys}), ascending=True)
    return {record.dagster_run.tags[RUN_KEY_TAG]: record for record in found}


def is_over(record: dg.RunRecord | None, tries: int) -> bool:
    """Return whether nothing is left to be done about a request: it succeeded, was stopped by a person, or given up."""
    if record is None or record.dagster_run.status in UNDER_WAY:
        return False
    return record.dagster_run.status is not dg.DagsterRunStatus.FAILURE or tries >= TRIES


def is_due(record: dg.RunRecord | None, tries: int, now: float | None = None) -> bool:
    """Return whether a request that failed is to be repeated now."""
    if record is None or record.dagster_run.status is not dg.DagsterRunStatus.FAILURE or tries >= TRIES:
        return False
    ended = record.end_time or record.update_timestamp.timestamp()
    return (time.time() if now is None else now) - ended >= WAIT_SECONDS * 2 ** (tries - 1)
