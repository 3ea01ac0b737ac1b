"""Sensors: they register nights and request runs; what to do with a night is decided by people or conditions."""

import dagster as dg

from proc_decam_dagster.assets.survey import exposures, raws
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.resources import ArchiveClient, Survey


@dg.sensor(asset_selection=[raws], minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def new_downloads(context: dg.SensorEvaluationContext, survey: Survey) -> dg.SensorResult | dg.SkipReason:
    """See verified downloads, register their nights, and request that a night whose files are all there be ingested."""
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
    complete = sorted(night for night, (wanted, there) in counts.items() if there == wanted)
    if not new and not complete:
        return dg.SkipReason("no night has new downloads")
    return dg.SensorResult(
        run_requests=[
            # A run key is used once: a night is ingested again only when its number of files changes.
            dg.RunRequest(run_key=f"raws-{night}-{counts[night][0]}", partition_key=night, tags={"decam/night": night})
            for night in complete
        ],
        dynamic_partitions_requests=[NIGHTS.build_add_request(new)] if new else [],
    )


@dg.sensor(asset_selection=[exposures], minimum_interval_seconds=600, default_status=dg.DefaultSensorStatus.STOPPED)
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
