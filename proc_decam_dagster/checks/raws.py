"""Checks of a night's raws: all there, room to process them, and what they make stale."""

import shutil

import dagster as dg

from proc_decam_dagster.assets.presentation import listed, markdown_table
from proc_decam_dagster.checks.check import ERROR, SHOWN, WARN, survey_check
from proc_decam_dagster.resources import ButlerRepository, Limits, Survey


@survey_check("raws")
def raws_complete(
    context: dg.AssetCheckExecutionContext, survey: Survey, repository: ButlerRepository
) -> dg.AssetCheckResult:
    """Every exposure of the night in the table is registered in the repository, but for those that cannot be had."""
    from proc_decam_dagster.archive import known_files, night_files
    from proc_decam_dagster.repository.raws import ingested_exposures
    from proc_decam_dagster.survey import exposures as table_io

    night = context.partition_key
    table = table_io.rows_of_nights(table_io.read_exposures(survey.exposures_file), [night])
    known = known_files(survey.images, survey.exposures_file)
    files = night_files(table, known).get(night)
    numbers = {int(e) for e in table["EXPNUM"]}
    missing = numbers - ingested_exposures(repository.open(), numbers)
    never = files.final if files else {}
    left = sorted(missing - (files.final_exposures if files else set()))
    return dg.AssetCheckResult(
        passed=bool(len(table)) and not left,
        severity=WARN if survey.partial and len(missing) < len(table) else ERROR,
        description=f"{len(table) - len(missing)} of {len(table)} exposures are in the repository",
        metadata={
            "expected": len(table),
            "missing": listed(left[:SHOWN]),
            "not_to_be_had": markdown_table(("file", "outcome"), never.items()),
        },
    )


@survey_check("raws")
def storage_budget(
    context: dg.AssetCheckExecutionContext, repository: ButlerRepository, limits: Limits
) -> dg.AssetCheckResult:
    """There is room for what the night's processing writes: on the disk, and in the survey's budget if it has one."""
    from proc_decam_dagster.report import gigabytes_of

    free = shutil.disk_usage(repository.open().root).free / 1e9
    metadata = {"free_gb": round(free, 3), "least_free_gb": limits.free_gb}
    passed = free >= limits.free_gb
    if limits.storage_gb:  # a walk through the whole repository: only where somebody asks for it
        used = gigabytes_of(repository.open(), ["."])
        metadata |= {"used_gb": round(used, 3), "budget_gb": limits.storage_gb}
        passed = passed and used <= limits.storage_gb
    return dg.AssetCheckResult(
        passed=passed, severity=ERROR, metadata=metadata,
        description=f"{free:.0f} GB are free"
        + ("" if passed else "; `proc-decam clean` shows what can go, and how much room that makes"),
    )  # fmt: skip


@survey_check("raws")
def nothing_stale(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
    """Nothing that was made of the night is older than what it is made from; no frame came after its processing."""
    from proc_decam_dagster.report import unprocessed_frames
    from proc_decam_dagster.repository.chains import processing_chains
    from proc_decam_dagster.repository.staleness import find_stale

    repo, night = repository.open(), context.partition_key
    late = unprocessed_frames(repo, night)
    made = any(chain.startswith(f"{night}/") for chain in processing_chains(repo.butler()))
    stale = find_stale(repo, f"{night}/*") if made else []
    rows = [(chain, count, "came after it was processed", "materialise it again") for chain, count in late.items()]
    rows += [(s.chain, len(s.data_ids), s.because, s.command) for s in stale]
    return dg.AssetCheckResult(
        passed=not rows, severity=WARN,
        description="nothing is stale" if not rows else f"{len(rows)} kinds of products are to be made anew",
        metadata={"stale": markdown_table(("chain", "number", "because", "what to do next"), rows[:SHOWN])},
    )  # fmt: skip


CHECKS = [raws_complete, storage_budget, nothing_stale]
