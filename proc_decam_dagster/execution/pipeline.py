"""`run_pipeline`: the steps of a proc type one after the other, then what it makes certified."""

import time
from collections.abc import Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.graph import constrained
from proc_decam_dagster.execution.pool import WorkerPool
from proc_decam_dagster.execution.report import PipelineReport
from proc_decam_dagster.execution.step import run_step
from proc_decam_dagster.repository import certify_calibrations
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.survey import datasets, proc_types
from proc_decam_dagster.survey.collections import raw_collection

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
    min_frames: int | None = None,
    bad_detectors: Collection[int] = (),
    **options: Any,
) -> PipelineReport:
    """Run a proc type's steps: each until complete, on what those before it made, with the same warm workers.

    A step in which some quanta failed does not keep the later ones from what succeeded; one in which all failed does.

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
        Masters of fewer frames are not certified; the repository's default if not given.
    bad_detectors : `~collections.abc.Collection` [`int`], optional
        Detectors of which no master is expected.
    **options
        Passed on to `run_step`.

    Raises
    ------
    SurveyError
        If the first step cannot run; where a later one cannot, `PipelineReport.stopped` says why.
    """
    row = proc_types.proc_type(proc_type)
    parts = {"coadd_subset": coadd_subset, "template_type": template_type}
    if steps is not None and not isinstance(steps, str):
        steps = ",".join(steps)
    report = PipelineReport(row.chain(subset, **parts))
    chosen = row.select_steps(steps)
    started = time.monotonic()
    with ExitStack() as stack:
        pool = pool or stack.enter_context(WorkerPool(jobs))
        for step in chosen:
            try:
                done = run_step(repository, row.name, subset, step, where=where, pool=pool, **parts, **options)
            except SurveyError as error:
                if not report.steps:
                    raise
                report.stopped = f"{report.chain} {step}: {error}"
                break
            report.steps.append(done)
            if not (done.succeeded or done.skipped) and not done.ok:
                cause = f": {done.failures[0]}" if done.failures else ""
                report.stopped = f"{report.chain} stopped at {step}, where every quantum failed{cause}"
                break
    if certify and row.certifies and not report.stopped and row.steps[-1] in chosen:
        frames = {} if min_frames is None else {"min_frames": min_frames}
        report.certified = certify_calibrations(
            repository, row.name, subset, **frames,
            expected_detectors=expected_detectors(repository, row.name, subset, where) - set(bad_detectors),
        )  # fmt: skip
    report.seconds = time.monotonic() - started
    return report


def expected_detectors(repository: "Repository", proc_type: str, night: str, where: str = "") -> set[int]:
    """Return the detectors that a night's raws hold, of those that a query selects."""
    refs = repository.butler().query_datasets(
        datasets.RAW, collections=raw_collection(night, proc_type), limit=None, explain=False,
        where=constrained(where, ("instrument",), instrument=INSTRUMENT, skymap=""),
    )  # fmt: skip
    return {ref.dataId["detector"] for ref in refs}
