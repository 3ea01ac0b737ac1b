"""The archive polled for exposures that are new."""

import json

import dagster as dg

from proc_decam_dagster.assets.survey import exposures
from proc_decam_dagster.resources import ArchiveClient, Survey
from proc_decam_dagster.sensors.requests import is_due, records_of
from proc_decam_dagster.sensors.sensor import survey_sensor


@survey_sensor(asset_selection=[exposures], minimum_interval_seconds=600, default_status=dg.DefaultSensorStatus.STOPPED)
def new_exposures(
    context: dg.SensorEvaluationContext, survey: Survey, archive: ArchiveClient
) -> dg.SensorResult | dg.SkipReason:
    """Poll the archive; when the number of the proposals' raws has changed, request that the table be made again.

    A request that failed is repeated.
    """
    from proc_decam_dagster.archive import count_exposures

    last = json.loads(context.cursor or "{}")
    count, tries = count_exposures(archive.open(), survey.proposal_ids), 1
    if count == last.get("count"):
        key = _key(count, last["tries"])
        if not is_due(records_of(context.instance, [key]).get(key), last["tries"]):
            return dg.SkipReason(f"the archive still has {count} raw exposures")
        tries = last["tries"] + 1
    cursor = json.dumps({"count": count, "tries": tries})
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=_key(count, tries))], cursor=cursor)


def _key(count: int, tries: int) -> str:
    return f"exposures-{count}-{tries}"
