"""Runs that failed are told: to the log always, elsewhere as the environment configures."""

import os

import dagster as dg

from proc_decam_dagster.partitions import SURVEY
from proc_decam_dagster.sensors.sensor import survey_sensor

LONGEST = 1500
"""Characters of a cause: the rest is on the run's page."""


@survey_sensor(dg.run_failure_sensor, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=30)
def failures(context: dg.RunFailureSensorContext) -> None:
    """Tell who is to know that a run failed: which assets and partition, why, and what to do next."""
    from proc_decam_dagster.sensors.channels import Channels

    facts = facts_of(context)
    subject = f"{SURVEY}: {facts['assets']} {facts['partition']} failed".replace("  ", " ")
    text = "\n".join(part for part in (subject, facts["cause"], facts["next"], facts["link"]) if part)
    context.log.error(text)
    outcome = Channels.from_environment().tell(subject, text, facts)
    for channel, why_not in outcome.items():
        if why_not:
            context.log.error(f"{channel} could not be told of run {facts['run']}: {why_not}")
        else:
            context.log.info(f"{channel} was told of run {facts['run']}")


def facts_of(context: dg.RunFailureSensorContext) -> dict[str, str]:
    """Return what there is to tell of a failed run, in words: the first step that failed says why."""
    run = context.dagster_run
    cause, fix = context.failure_event.message or "", ""
    for event in context.get_step_failure_events()[:1]:
        data = event.step_failure_data
        told = data.user_failure_data
        if told:
            cause = told.description or cause
            action = told.metadata.get("what to do next")
            fix = str(action.value) if action else ""
        elif data.error:
            # Dagster's own error says only which step it was.
            cause = (data.error.cause or data.error).message
    page = os.environ.get("PROC_DECAM_UI_URL", "").rstrip("/")
    return {
        "survey": SURVEY,
        "run": run.run_id,
        "assets": ", ".join(sorted(k.to_user_string() for k in run.asset_selection or ())) or run.job_name,
        "partition": run.tags.get("dagster/partition", ""),
        "cause": " ".join(cause.split())[:LONGEST],
        "next": f"what to do next: {fix}"[:LONGEST] if fix else "",
        "link": f"{page}/runs/{run.run_id}" if page else "",
    }
