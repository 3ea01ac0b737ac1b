"""Materialising a processing chain: a run of its steps, judged by the launch form's tolerance, and what is reported."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from proc_decam_dagster.assets.forms import Calibrated, Calibration, Processing
from proc_decam_dagster.assets.presentation import measured, report_metadata, runs_of, versions_of
from proc_decam_dagster.resources import Execution
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.execution import PipelineReport
    from proc_decam_dagster.repository import Repository

POOL = "processing"
"""Dagster pool that bounds how many executions run at once (`-J`); each uses `J` cores."""


def step_log(context: dg.AssetExecutionContext):
    """Return a progress function that writes one line a step at its start and end, and some in between."""
    from proc_decam_dagster.execution import throttled

    return throttled(context.log.info, seconds=10)


def run_chain(
    context: dg.AssetExecutionContext,
    repo: "Repository",
    execution: Execution,
    proc_type: str,
    config: Processing,
    **parts: Any,
) -> "PipelineReport":
    """Run the steps of a chain to completion.

    Raises
    ------
    dagster.Failure
        If more quanta failed or were blocked than are tolerated, or calibrations could not be certified;
        the failures are in its metadata.
    """
    from proc_decam_dagster.execution import run_pipeline

    names = list(parts.values())
    if isinstance(config, Calibration):
        parts["partial"] = config.partial
    if isinstance(config, Calibrated):
        parts["calibrations"] = config.policy()
    if PROC_TYPES[proc_type].certifies:
        parts["min_frames"] = int(config.min_frames)
    pool = execution.pool(config.cores)
    context.log.info(f"{proc_type} {' '.join(map(str, names))}: building the first graph, for {pool.jobs} workers")
    report = run_pipeline(
        repo, proc_type, **parts, steps=config.steps or None, where=config.query,
        retry_failed=config.retry_failed, pool=pool, backend=execution.back_end(config.backend),
        progress=step_log(context),
    )  # fmt: skip
    judge(report, config)
    return report


def judge(report: "PipelineReport", config: Processing) -> None:
    """Raise `dagster.Failure` unless the report is within the tolerance."""
    counts = [c for step in report.steps for c in step.tasks.values()]
    bad = sum(c.failed + c.blocked for c in counts)
    total = bad + sum(c.succeeded + c.skipped for c in counts)
    if bad > config.tolerated_fraction * total:
        first = f"; first: {report.failures[0]}" if report.failures else ""
        raise dg.Failure(f"{bad} of {total} quanta failed or were blocked{first}", metadata=report_metadata(report))
    if report.stopped:
        raise dg.Failure(report.stopped, metadata=report_metadata(report))
    certified = report.certified
    if certified is not None and not certified.ok and not (getattr(config, "partial", False) and certified.certified):
        raise dg.Failure(
            f"calibrations were not certified: {report.certified.why_not}", metadata=report_metadata(report)
        )


def result(
    context: dg.AssetExecutionContext, repo: "Repository", config: Processing, report: "PipelineReport",
    more: Mapping[str, Any] | None = None, **figures: Any,
) -> dg.MaterializeResult | Iterator[dg.MaterializeResult]:  # fmt: skip
    """Return what a processed chain reports to Dagster: first what people look at, then how it was made.

    A run of a part of the data (some detectors, some steps) leaves a partition that was never materialised as it is:
    it is observed, and green only once all of it was processed.
    """
    from proc_decam_dagster.report import gigabytes_of

    metadata = (
        measured(figures)
        | report_metadata(report)
        | {"gigabytes_written": round(gigabytes_of(repo, runs_of(report)), 3)}
        | dict(more or {})
    )
    if config.selection and not _is_materialised(context):
        why = f"only {config.selection} was processed"
        context.log.warning(f"{why}: the partition is not materialised; launch it without to make all of it")
        observed = {"incomplete": why} | metadata
        context.log_event(dg.AssetObservation(context.asset_key, partition=context.partition_key, metadata=observed))
        return (nothing for nothing in ())  # a generator: Dagster takes anything else for an output
    return dg.MaterializeResult(metadata=metadata, data_version=versions_of(repo, report.chain))


def _is_materialised(context: dg.AssetExecutionContext) -> bool:
    """Whether the partition that is made has been made before."""
    wanted = dg.AssetRecordsFilter(asset_key=context.asset_key, asset_partitions=[context.partition_key])
    return bool(context.instance.fetch_materializations(wanted, limit=1).records)
