"""Sensors: they register nights and request runs; what to do with a night is decided by people or conditions."""

import json

import dagster as dg

from proc_decam_dagster.assets.asset import told_in_one_line
from proc_decam_dagster.assets.survey import exposures, raws
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.resources import ArchiveClient, Survey

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


@dg.sensor(asset_selection=[raws], minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
@told_in_one_line()
def new_downloads(context: dg.SensorEvaluationContext, survey: Survey) -> dg.SensorResult | dg.SkipReason:
    """See verified downloads, register their nights, and request that a night whose files are all there be ingested.

    The cursor holds the nights that are dealt with, and how many files they had.
    """
    from proc_decam_dagster.archive import downloaded_md5s
    from proc_decam_dagster.survey import exposures as table_io

    if not survey.exposures_file.is_file():
        return dg.SkipReason(f"there is no exposure table {survey.exposures_file} yet: materialise `exposures`")
    table = table_io.read_exposures(survey.exposures_file)
    verified = downloaded_md5s(survey.images, survey.exposures_file)
    counts: dict[str, list[int]] = {}
    for row in table:
        count = counts.setdefault(str(row["night"]), [0, 0])
        count[0] += 1
        count[1] += str(row["md5sum"]) in verified
    known = set(context.instance.get_dynamic_partitions(NIGHTS.name))
    new = sorted(night for night, (_, there) in counts.items() if there and night not in known)
    done: dict[str, int] = json.loads(context.cursor or "{}")
    complete = {n: wanted for n, (wanted, there) in sorted(counts.items()) if there == wanted and done.get(n) != wanted}
    busy = _nights_under_way(context.instance) if complete else set()
    asked = {n: c for n, c in complete.items() if n not in busy and _files_ingested(context.instance, n) != c}
    done |= {n: c for n, c in complete.items() if n not in busy}
    if not new and not asked:
        context.update_cursor(json.dumps(done))
        return dg.SkipReason("no night has new downloads")
    return dg.SensorResult(
        run_requests=[
            # A run key is used once: a night is ingested again only when its number of files changes.
            dg.RunRequest(run_key=f"raws-{night}-{count}", partition_key=night, tags={"decam/night": night})
            for night, count in asked.items()
        ],
        dynamic_partitions_requests=[NIGHTS.build_add_request(new)] if new else [],
        cursor=json.dumps(done),
    )


def _nights_under_way(instance: dg.DagsterInstance) -> set[str]:
    """Return the nights whose raws a run is to ingest already; they are looked at again when it has ended."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))
    return {run.tags.get("dagster/partition", "") for run in runs if raws.key in (run.asset_selection or ())}


def _files_ingested(instance: dg.DagsterInstance, night: str) -> int | None:
    """Return the number of files that a night's raws had when they were materialised last, by whomever."""
    wanted = dg.AssetRecordsFilter(asset_key=raws.key, asset_partitions=[night])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization.metadata["files"].value if records else None


@dg.sensor(asset_selection=[exposures], minimum_interval_seconds=600, default_status=dg.DefaultSensorStatus.STOPPED)
@told_in_one_line()
def new_exposures(
    context: dg.SensorEvaluationContext, survey: Survey, archive: ArchiveClient
) -> dg.SensorResult | dg.SkipReason:
    """Poll the archive; when the number of the proposals' raws has changed, request that the table be made again."""
    from proc_decam_dagster.archive import count_exposures

    count = count_exposures(archive.open(), survey.proposal_ids)
    if str(count) == context.cursor:
        return dg.SkipReason(f"the archive still has {count} raw exposures")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"exposures-{count}")], cursor=str(count))


SENSORS = [new_downloads, new_exposures]
