"""Downloads: nights of verified files are registered, and ingested when nothing is left to wait for."""

import json

import dagster as dg

from proc_decam_dagster.assets.asset import told_in_one_line
from proc_decam_dagster.assets.survey import raws
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.resources import Survey
from proc_decam_dagster.sensors.requests import UNDER_WAY, is_due, is_over, records_of

NIGHTS_A_TICK = 100
"""Nights that one tick deals with; the next one goes on."""


@dg.sensor(asset_selection=[raws], minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
@told_in_one_line()
def new_downloads(context: dg.SensorEvaluationContext, survey: Survey) -> dg.SensorResult | dg.SkipReason:
    """See verified downloads, register their nights, and request that a night that is ready be ingested.

    A night is ready when each of its files is verified or known never to be had; with `PROC_DECAM_PARTIAL`, when no
    file has come since the last tick. More files later make it ready again. A request that failed is repeated.
    """
    from proc_decam_dagster.archive import known_files, night_files
    from proc_decam_dagster.survey import exposures as table_io

    if not survey.exposures_file.is_file():
        return dg.SkipReason(f"there is no exposure table {survey.exposures_file} yet: materialise `exposures`")
    # done: night → files that it was last asked for with; asked: night → tries of what is not over; seen: files.
    cursor = {"done": {}, "asked": {}, "seen": {}} | json.loads(context.cursor or "{}")
    done, asked = cursor["done"], cursor["asked"]
    nights = night_files(
        table_io.read_exposures(survey.exposures_file), known_files(survey.images, survey.exposures_file)
    )
    counts = {night: len(files.verified) for night, files in sorted(nights.items()) if files.verified}
    known = set(context.instance.get_dynamic_partitions(NIGHTS.name))
    new = [night for night in counts if night not in known]

    ready = {
        night: count for night, count in counts.items()
        if nights[night].ready or (survey.partial and cursor["seen"].get(night) == count)
    }  # fmt: skip
    changed = {night: count for night, count in ready.items() if done.get(night) != count}
    busy = _nights_under_way(context.instance) if changed else set()
    wanted = {}
    for night, count in [item for item in changed.items() if item[0] not in busy][:NIGHTS_A_TICK]:
        done[night] = count
        asked.pop(night, None)
        if _files_ingested(context.instance, night) != count:
            wanted[night] = 1
    keys = {night: _key(night, done[night], tries) for night, tries in asked.items()}
    records = records_of(context.instance, keys.values())
    wanted |= {night: asked[night] + 1 for night, key in keys.items() if is_due(records.get(key), asked[night])}
    over = {night for night, key in keys.items() if is_over(records.get(key), asked[night])}
    cursor["asked"] = {night: tries for night, tries in (asked | wanted).items() if night not in over}
    cursor["seen"] = counts if survey.partial else {}
    if not new and not wanted:
        context.update_cursor(json.dumps(cursor))
        return dg.SkipReason("no night has new downloads")
    return dg.SensorResult(
        run_requests=[
            # A run key is used once: a night is ingested again when its number of files changes, or after a failure.
            dg.RunRequest(run_key=_key(night, done[night], tries), partition_key=night, tags={"decam/night": night})
            for night, tries in sorted(wanted.items())
        ],
        dynamic_partitions_requests=[NIGHTS.build_add_request(new)] if new else [],
        cursor=json.dumps(cursor),
    )


def _key(night: str, files: int, tries: int) -> str:
    return f"raws-{night}-{files}-{tries}"


def _nights_under_way(instance: dg.DagsterInstance) -> set[str]:
    """Return the nights whose raws a run is to ingest already; they are looked at again when it has ended."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))
    return {run.tags.get("dagster/partition", "") for run in runs if raws.key in (run.asset_selection or ())}


def _files_ingested(instance: dg.DagsterInstance, night: str) -> int | None:
    """Return the number of files that a night's raws had when they were materialised last, by whomever."""
    wanted = dg.AssetRecordsFilter(asset_key=raws.key, asset_partitions=[night])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization.metadata["files"].value if records else None
