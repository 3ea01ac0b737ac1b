"""The survey's raw material: the exposure table, and each night's raws in the repository."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.lineage import PARTITIONS, dependency
from proc_decam_dagster.assets.presentation import data_version, headings, markdown_table, picture
from proc_decam_dagster.partitions import add_nights
from proc_decam_dagster.resources import ArchiveClient, ButlerRepository, Execution, Survey

GROUP = "survey"
SHOWN_CHANGES = 100


@survey_asset(group_name=GROUP, kinds={"noirlab"})
def exposures(context: dg.AssetExecutionContext, survey: Survey, archive: ArchiveClient) -> dg.MaterializeResult:
    """Exposures of the survey's proposals in the NOIRLab archive, with the zeros and dome flats of their nights.

    Brings `exposures.ecsv`, `missing_data.ecsv` and `exposures_nights.ecsv` in the data folder up to date, names what
    changed since the last time (`exposures_changes.ecsv`), and registers the nights as partitions.
    """
    from proc_decam_dagster.archive import update_exposures
    from proc_decam_dagster.report import sky_map
    from proc_decam_dagster.report.sky import SKY_NAME
    from proc_decam_dagster.survey import exposures as table_io

    update = update_exposures(archive.open(), survey.folder, survey.proposal_ids)
    table, missing, summary = update.table, update.missing, update.nights
    sky = sky_map(table, survey.proposals)
    (survey.folder / SKY_NAME).write_bytes(sky)
    nights = table_io.nights_of(table)
    new = add_nights(context.instance, nights)
    columns = ("night", "zeros", "dome_flats", "science", "science_seconds", "expected_gb", "lacks")
    return dg.MaterializeResult(
        metadata={
            "exposures": len(table),
            "nights": len(nights),
            "new_nights": ", ".join(new) or "none",
            "changes": update.summary or "none",
            "expected_gb": round(float(sum(summary["expected_gb"])), 3),
            "nights_lacking_calibrations": len(missing),
            "sky": picture(sky, "science exposures by band"),
            "by_night": markdown_table(headings(columns), summary[list(columns)]),
            "changed": markdown_table(("change",), [(c,) for c in update.changes[:SHOWN_CHANGES]]),
            "missing": markdown_table(headings(missing.colnames), missing.filled("") if missing.masked else missing),
            "file": dg.MetadataValue.path(str(survey.exposures_file)),
        },
        data_version=data_version(sorted(table["md5sum"])),
    )


@survey_asset(
    group_name=GROUP, kinds={"noirlab", "fits"}, partitions_def=PARTITIONS["raws"], pool="archive",
    deps=[dependency("exposures", "raws")],
)  # fmt: skip
def raws(
    context: dg.AssetExecutionContext,
    survey: Survey,
    archive: ArchiveClient,
    repository: ButlerRepository,
    execution: Execution,
) -> dg.MaterializeResult:
    """A night's raw files: downloaded, verified, ingested, tagged by proc type, science exposures defined as visits.

    A file that the archive will never give is left out, and named. More exposures later re-open the night: its check
    `nothing_stale` then says what is to be made anew.
    """
    from proc_decam_dagster.archive import Outcome, download, final_outcome, state_file_of
    from proc_decam_dagster.repository import define_visits, ingest_raws, tag_raws
    from proc_decam_dagster.survey import exposures as table_io
    from proc_decam_dagster.survey.proc_types import PROC_TYPES

    night = context.partition_key
    table = table_io.rows_of_nights(table_io.read_exposures(survey.exposures_file), [night])
    if not len(table):
        raise dg.Failure(f"{survey.exposures_file} has no exposure of night {night}; materialise `exposures` again")
    fetched = download(
        archive.open(), table, survey.images, jobs=archive.connections,
        state_file=state_file_of(survey.exposures_file), log=context.log.info,
    )  # fmt: skip
    lacking = [r for r in fetched.results if r.outcome is not Outcome.VERIFIED]
    waited_for = [] if survey.partial else [r for r in lacking if not final_outcome(r.outcome, r.until)]
    if waited_for or len(lacking) == len(table):
        raise dg.Failure(
            f"{len(lacking)} of {len(table)} files of night {night} could not be had; what is there is kept: "
            "materialise it again, or set PROC_DECAM_PARTIAL=1 to go on without them",
            metadata={"failures": markdown_table(("file", "outcome"), fetched.failures)},
        )
    verified = {r.md5sum for r in fetched.results} - {r.md5sum for r in lacking}
    table = table[[str(md5) in verified for md5 in table["md5sum"]]]
    repo = repository.ensure()
    ingested = ingest_raws(repo, table, survey.images, jobs=execution.cores)
    if ingested.failed:
        raise dg.Failure(
            f"{len(ingested.failed)} of {len(table)} raw files of night {night} could not be ingested",
            metadata={"failures": markdown_table(("file", "reason"), ingested.failed)},
        )
    there = set(table["obs_type"])
    tagged = {name: tag_raws(repo, night, name) for name, row in PROC_TYPES.items() if row.obs_type in there}
    new_visits = define_visits(repo, night) if "drp" in tagged else 0
    return dg.MaterializeResult(
        metadata={
            "files": len(table),
            "not_to_be_had": markdown_table(("file", "outcome"), fetched.failures),
            "ingested": ingested.ingested,
            "already_there": ingested.existing,
            "visits": len(table_io.rows_of_obs_type(table, "object")),
            "new_visits": new_visits,
            "gigabytes": round(sum(f.stat().st_size for f in fetched.paths) / 1e9, 3),
            "raws_by_proc_type": markdown_table(("proc type", "raws"), tagged.items()),
        },
        data_version=data_version(sorted(table["md5sum"])),
    )


ASSETS = [exposures, raws]
