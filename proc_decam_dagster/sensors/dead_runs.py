"""Runs that died with their host or code server: Dagster calls them started for ever, and they hold pool slots."""

import json
import socket

import dagster as dg

from proc_decam_dagster.sensors.sensor import survey_sensor

GRPC_TAG = ".dagster/grpc_info"
"""Where Dagster's default launcher notes the code server that it started a run in."""


@survey_sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Report runs failed whose process on this host is no more, so that queue and pools count them no longer.

    What such a run has made is kept: materialise its assets again, and they go on from there.
    """
    started = context.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    dead = [record.dagster_run for record in started if _died(context.instance, record)]
    for run in dead:
        # It may have ended by itself meanwhile.
        if context.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED:
            message = (
                f"The process of this run is no more on {socket.gethostname()}: its host or code server went down. "
                "What it has made is kept: materialise its assets again to go on."
            )
            context.instance.report_run_failed(run, message)
            context.log.warning(f"run {run.run_id}: {message}")
    return dg.SkipReason(f"{len(dead)} of {len(started)} started runs had died")


def _died(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Return whether a run was started on this host and its process is gone; `False` where that cannot be known."""
    import psutil  # not by every process that loads the definitions

    launched = json.loads(record.dagster_run.tags.get(GRPC_TAG, "{}"))
    if not launched or not _is_here(launched.get("host") or "localhost"):
        return False
    pid = _pid(instance, record.dagster_run.run_id)
    if pid is None or record.start_time is None:
        return False
    try:
        process = psutil.Process(pid)
        # One that nobody buries, as in a container without an init, is dead all the same; one that is younger than the
        # run has but got its number.
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > record.start_time + 1
    except psutil.NoSuchProcess:
        return True


def _pid(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """Return the process of a run's worker, from the event with which the code server started it."""
    found = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=20).records
    for entry in found:
        metadata = entry.event_log_entry.dagster_event.engine_event_data.metadata
        if "pid" in metadata:
            return int(metadata["pid"].value)
    return None


def _is_here(host: str) -> bool:
    """Return whether a code server's host is this one: sensors run in the code server that launches the runs."""
    if host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()):
        return True
    try:
        return socket.gethostbyname(host) == socket.gethostbyname(socket.gethostname())
    except OSError:
        return False
