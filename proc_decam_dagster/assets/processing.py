"""Materialising a processing chain: configuration from the UI, a run of its steps, and what is reported."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from proc_decam_dagster.assets.presentation import data_version, measured, report_metadata
from proc_decam_dagster.resources import Execution

if TYPE_CHECKING:
    from proc_decam_dagster.execution import PipelineReport
    from proc_decam_dagster.repository import Repository

POOL = "processing"
"""Dagster pool that bounds how many executions run at once (`-J`); each uses `J` cores."""


class Processing(dg.Config):
    """How a chain is processed."""

    where: str = Field(
        default="", description="Butler expression that narrows the data, such as `detector IN (1..4)`; all if empty"
    )
    steps: str = Field(default="", description="Steps to run, such as `1,2a`; all if empty")
    tolerated_failures: float = Field(
        default=0.0, ge=0, le=1, description="Fraction of quanta, 0 to 1, that may fail before the asset fails"
    )
    retry_failed: bool = Field(default=False, description="Whether to run again what failed for good before")


class Differencing(Processing):
    """How difference images are made."""

    # A Literal: the launchpad offers the values and refuses others.
    science: Literal["clean", "injected", "both"] = Field(
        default="clean", description="Science images: `clean`, `injected` with fakes, or `both`, one after the other"
    )


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

    pool = execution.pool()
    context.log.info(f"{proc_type} {' '.join(parts.values())}: building the first graph, for {pool.jobs} workers")
    report = run_pipeline(
        repo, proc_type, **parts, steps=config.steps or None, where=config.where,
        retry_failed=config.retry_failed, pool=pool, progress=step_log(context),
    )  # fmt: skip
    judge(report, config)
    return report


def judge(report: "PipelineReport", config: Processing) -> None:
    """Raise `dagster.Failure` unless the report is within the tolerance."""
    counts = [c for step in report.steps for c in step.tasks.values()]
    bad = sum(c.failed + c.blocked for c in counts)
    total = bad + sum(c.succeeded + c.skipped for c in counts)
    if bad > config.tolerated_failures * total:
        first = f"; first: {report.failures[0]}" if report.failures else ""
        raise dg.Failure(f"{bad} of {total} quanta failed or were blocked{first}", metadata=report_metadata(report))
    if report.stopped:
        raise dg.Failure(report.stopped, metadata=report_metadata(report))
    if report.certified is not None and not report.certified.ok:
        raise dg.Failure(f"calibrations were not certified: {report.certified}", metadata=report_metadata(report))


def result(
    repo: "Repository", report: "PipelineReport", more: Mapping[str, Any] | None = None, **figures: Any
) -> dg.MaterializeResult:
    """Return what a processed chain reports to Dagster: first what people look at, then how it was made."""
    from proc_decam_dagster.repository.chains import runs_of

    return dg.MaterializeResult(
        metadata=measured(figures) | report_metadata(report) | dict(more or {}),
        data_version=data_version([report.chain, *runs_of(repo.butler(), report.chain)]),
    )
