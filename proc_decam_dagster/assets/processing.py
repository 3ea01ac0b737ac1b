"""Materialising a processing chain: configuration from the UI, a run of its steps, and what is reported."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, field_validator

from proc_decam_dagster.assets.presentation import measured, report_metadata, versions_of
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.resources import Execution
from proc_decam_dagster.survey.calibration_policy import CalibrationPolicy

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
    # Choices rather than numbers, here and below: a launch dialog refuses what is none of them, but knows no bounds.
    tolerated_failures: Literal["none", "1%", "2%", "5%", "10%", "20%", "50%", "all"] = Field(
        default="none", description="How many of the quanta may fail before the asset fails"
    )
    retry_failed: bool = Field(default=False, description="Whether to run again what failed for good before")


class Calibration(Processing):
    """How a night's master calibrations are made."""

    partial: bool = Field(
        default=False, description="Certify the masters that succeeded even if others of the night did not"
    )


class Calibrated(Calibration):
    """How a chain is processed that takes the night's master calibrations."""

    partial: bool = Field(
        default=False, description="Process the raws whose masters are there, and certify what succeeded"
    )
    calibrations: Literal["own", "nearest"] = Field(
        default="own",
        description="Masters that the night lacks: `own` stops and names the nearest nights that have them, `nearest` "
        "takes theirs",
    )
    calibrations_within: Literal["1 day", "2 days", "3 days", "7 days", "14 days", "30 days"] = Field(
        default="7 days", description="How far away the nearest night may be"
    )
    calibrations_from: str = Field(
        default="",
        description="Night whose masters are taken for those that are missing, such as `20190402`, or "
        "`bias=20190402,flat=20190405`; none if empty",
    )

    @field_validator("calibrations_from")
    @classmethod
    def _is_nights(cls, text: str) -> str:
        _nights(text)
        return text

    def policy(self) -> CalibrationPolicy:
        """Return where missing masters come from."""
        return _nights(self.calibrations_from, self.calibrations, int(self.calibrations_within.split()[0]))


def _nights(text: str, *policy: Any) -> CalibrationPolicy:
    """Return a policy; a `ValueError` says what is wrong with the nights, as configuration errors are told."""
    try:
        return CalibrationPolicy.of(text.replace(",", " ").split(), *policy)
    except SurveyError as error:
        raise ValueError(str(error)) from None


class Differencing(Processing):
    """How difference images are made."""

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

    names = list(parts.values())
    if isinstance(config, Calibration):
        parts["partial"] = config.partial
    if isinstance(config, Calibrated):
        parts["calibrations"] = config.policy()
    pool = execution.pool()
    context.log.info(f"{proc_type} {' '.join(map(str, names))}: building the first graph, for {pool.jobs} workers")
    report = run_pipeline(
        repo, proc_type, **parts, steps=config.steps or None, where=config.where,
        retry_failed=config.retry_failed, pool=pool, backend=execution.back_end(), progress=step_log(context),
    )  # fmt: skip
    judge(report, config)
    return report


def judge(report: "PipelineReport", config: Processing) -> None:
    """Raise `dagster.Failure` unless the report is within the tolerance."""
    counts = [c for step in report.steps for c in step.tasks.values()]
    bad = sum(c.failed + c.blocked for c in counts)
    total = bad + sum(c.succeeded + c.skipped for c in counts)
    if bad > tolerated_fraction(config) * total:
        first = f"; first: {report.failures[0]}" if report.failures else ""
        raise dg.Failure(f"{bad} of {total} quanta failed or were blocked{first}", metadata=report_metadata(report))
    if report.stopped:
        raise dg.Failure(report.stopped, metadata=report_metadata(report))
    if report.certified is not None and not report.certified.ok and not getattr(config, "partial", False):
        raise dg.Failure(
            f"calibrations were not certified: {report.certified.why_not}", metadata=report_metadata(report)
        )


def tolerated_fraction(config: Processing) -> float:
    """Return the fraction of quanta that may fail."""
    text = {"none": "0", "all": "100"}.get(config.tolerated_failures, config.tolerated_failures)
    return float(text.rstrip("%")) / 100


def result(
    repo: "Repository", report: "PipelineReport", more: Mapping[str, Any] | None = None, **figures: Any
) -> dg.MaterializeResult:
    """Return what a processed chain reports to Dagster: first what people look at, then how it was made."""
    return dg.MaterializeResult(
        metadata=measured(figures) | report_metadata(report) | dict(more or {}),
        data_version=versions_of(repo, report.chain),
    )
