"""`run_pipeline`: the steps of a proc type one after the other, then what it makes certified."""

import time
from collections.abc import Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.pool import WorkerPool
from proc_decam_dagster.execution.report import PipelineReport, StepReport
from proc_decam_dagster.execution.step import run_step
from proc_decam_dagster.repository import certify_calibrations
from proc_decam_dagster.repository.certify import CertifyReport, outdated_masters
from proc_decam_dagster.repository.overrides import apply_overrides, approved, overridden
from proc_decam_dagster.repository.queries import night_frames
from proc_decam_dagster.repository.substitutes import calibrations_needed, describe_collection, provide_calibrations
from proc_decam_dagster.survey import datasets, proc_types
from proc_decam_dagster.survey.calibration_policy import OWN, CalibrationPolicy

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


def run_pipeline(
    repository: "Repository",
    proc_type: str,
    subset: str = "",
    *,
    coadd_subset: str = "",
    template_type: str = "",
    steps: str | Collection[str] | None = None,
    where: str = "",
    jobs: int | None = None,
    pool: WorkerPool | None = None,
    certify: bool = True,
    min_frames: int = proc_types.MIN_FRAMES,
    calibrations: CalibrationPolicy = OWN,
    partial: bool = False,
    **options: Any,
) -> PipelineReport:
    """Run a proc type's steps: each until complete, on what those before it made, with the same warm workers.

    A step in which some quanta failed does not keep the later ones from what succeeded; one in which all failed does.
    Calibrations are stricter: they are combined, and certified, when all frames of all detectors are there, or else
    only what is ``partial`` is asked for.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    proc_type, subset, coadd_subset, template_type : `str`
        Name the chain.
    steps : `str` or `~collections.abc.Collection` [`str`], optional
        Those to run, ``"2a,2b"``; all if empty.
    where : `str`, optional
        Butler query.
    jobs, pool : optional
        See `run_step`.
    certify : `bool`, optional
        Whether what the last step made is certified.
    min_frames : `int`, optional
        Masters of fewer frames are not certified.
    calibrations : `CalibrationPolicy`, optional
        Where masters come from that the night lacks.
    partial : `bool`, optional
        Go on with what is there: raws whose masters are there, frames and detectors that succeeded.
    **options
        Passed on to `run_step`.

    Raises
    ------
    SurveyError
        If masters are missing, or the first step cannot run; where a later one cannot, `PipelineReport.stopped` says
        why.
    """
    row = proc_types.proc_type(proc_type)
    parts = {"coadd_subset": coadd_subset, "template_type": template_type}
    if steps is not None and not isinstance(steps, str):
        steps = ",".join(steps)
    report = PipelineReport(row.chain(subset, **parts))
    chosen = row.select_steps(steps)
    started = time.monotonic()
    if set(chosen) & set(row.frame_steps):
        for dataset in calibrations_needed(row.name):
            apply_overrides(repository, subset, dataset)
        report.calibrations = provide_calibrations(
            repository, subset, row.name, calibrations, where=where, partial=partial
        )
    with ExitStack() as stack:
        pool = pool or stack.enter_context(WorkerPool(jobs))
        for step in chosen:
            again = (
                row.certifies and step not in row.frame_steps and outdated_masters(repository, row.name, subset, where)
            )
            try:
                done = run_step(
                    repository, row.name, subset, step, where=where, pool=pool, **parts,
                    **options | ({"skip_existing": False} if again else {}),
                )  # fmt: skip
            except SurveyError as error:
                if not report.steps:
                    raise
                report.stopped = f"{report.chain} {step}: {error}"
                break
            report.steps.append(done)
            report.stopped = _why_stop(report.chain, done, strict=bool(row.certifies) and not partial)
            if report.stopped:
                break
    if certify and row.certifies and not report.stopped and row.steps[-1] in chosen:
        report.certified = _certify(repository, row, subset, where, min_frames, partial)
    report.seconds = time.monotonic() - started
    return report


def _why_stop(chain: str, done: StepReport, *, strict: bool) -> str:
    """Return why the steps after one are not run; empty if they are."""
    if done.ok or (not strict and (done.succeeded or done.skipped)):
        return ""
    cause = f": {done.failures[0]}" if done.failures else ""
    if not (done.succeeded or done.skipped):
        return f"{chain} stopped at {done.step}, where every quantum failed{cause}"
    bad, total = done.failed + done.blocked, sum(counts.total for counts in done.tasks.values())
    return (
        f"{chain} stopped at {done.step}, where {bad} of {total} quanta did not succeed{cause}; nothing is certified; "
        f"run it again when the cause is mended, or with --partial to go on with what succeeded"
    )


def _certify(
    repository: "Repository", row: proc_types.ProcType, night: str, where: str, min_frames: int, partial: bool
) -> CertifyReport:
    """Certify what a calibration's last step made, then what people's overrides say."""
    frames = night_frames(repository, night, row.name, by_filter=row.certifies == datasets.FLAT, where=where)
    left_out = overridden(repository, night, row.certifies, frames)
    report = certify_calibrations(
        repository, row.name, night, partial=partial, min_frames=min_frames,
        expected={m: n for m, n in frames.items() if m not in left_out},
        trusted=approved(repository, night, row.certifies, frames),
    )  # fmt: skip
    apply_overrides(repository, night, row.certifies)
    describe_collection(repository, night, row.certifies)
    return report
