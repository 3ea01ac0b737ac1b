"""`run_night`: one night and proc type from its files to its products."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.cores import default_cores
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.pipeline import run_pipeline
from proc_decam_dagster.execution.pool import WorkerPool
from proc_decam_dagster.execution.report import NightReport, PipelineReport
from proc_decam_dagster.repository import define_visits, ingest_raws, tag_raws
from proc_decam_dagster.repository.overrides import apply_overrides
from proc_decam_dagster.repository.raws import AllExcluded, require_not_excluded
from proc_decam_dagster.repository.substitutes import calibrations_needed, provide_instead, require_calibrations
from proc_decam_dagster.survey import proc_types
from proc_decam_dagster.survey.calibration_policy import OWN, CalibrationPolicy
from proc_decam_dagster.survey.exposures import rows_of_nights, rows_of_obs_type

if TYPE_CHECKING:
    from astropy.table import Table

    from proc_decam_dagster.repository import Repository


def run_night(
    repository: "Repository",
    night: str,
    proc_type: str,
    *,
    exposures: "Table | None" = None,
    image_dir: str | Path | None = None,
    transfer: str = "direct",
    jobs: int | None = None,
    pool: WorkerPool | None = None,
    calibrations: CalibrationPolicy = OWN,
    **options: Any,
) -> NightReport:
    """Ingest a night's raws of a proc type, tag them, define visits, run the pipeline and certify what it makes.

    A night of which the survey's list leaves out everything has nothing to do: `NightReport.left_out` says so.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    night : `str`
        YYYYMMDD.
    proc_type : `str`
        ``bias``, ``flat``, ``drp`` (or ``science``), ``diff_drp``.
    exposures : `~astropy.table.Table`, optional
        Exposure table; the one the repository knows if not given.
    image_dir : `str` or `~pathlib.Path`, optional
        Folder of the downloaded files; without it nothing is ingested.
    transfer : `str`, optional
        How raws are ingested: ``direct``, ``copy``, ``symlink``.
    jobs, pool : optional
        See `run_step`.
    calibrations : `CalibrationPolicy`, optional
        Where masters come from that the night lacks; a bias or flat that the night has no raws for is then no error.
    **options
        Passed on to `run_pipeline`.

    Raises
    ------
    SurveyError
        If calibrations are missing (the nearest night that has them is named; nothing is tagged then), or the pipeline
        cannot start.
        Raws that cannot be ingested do not stop the others: `NightReport.error` names them.
    """
    started = time.monotonic()
    row = proc_types.proc_type(proc_type)
    report = NightReport(night, row.name)
    try:
        if row.obs_type is not None:
            table = exposures if exposures is not None else repository.known_exposures()
            rows = rows_of_obs_type(rows_of_nights(table, [night]), row.obs_type)
            if not len(rows) and row.certifies and calibrations.provides(row.certifies):
                source = provide_instead(repository, night, row.certifies, calibrations)
                report.pipeline = PipelineReport(row.chain(night), calibrations={row.certifies: source})
                return report
            if exposures is not None and image_dir is None:
                repository.remember_exposures(exposures)
            check = partial(_check, repository, night, row, rows, calibrations, options)
            check()  # whatever keeps the night from being processed is told before anything is changed
            if image_dir is not None:
                if not len(rows):
                    raise SurveyError(f"the exposure table has no {row.obs_type} exposures of night {night}")
                cores = pool.jobs if pool else jobs or default_cores()
                report.ingested = ingest_raws(repository, rows, image_dir, transfer=transfer, jobs=cores)
                if report.ingested.ingested:
                    check()
            tag_raws(repository, night, row.name)
            if row.name == "drp":
                define_visits(repository, night)
        report.pipeline = run_pipeline(
            repository, row.name, night, jobs=jobs, pool=pool, calibrations=calibrations, **options
        )
    except AllExcluded as error:
        report.left_out = error.found
    finally:
        report.seconds = time.monotonic() - started
    if report.ingested is not None and not report.ingested.ok:
        try:
            report.ingested.raise_on_failure()
        except SurveyError as error:
            report.error = str(error)
    return report


def _check(
    repository: "Repository", night: str, row: proc_types.ProcType, rows: "Table", calibrations: CalibrationPolicy,
    options: Mapping[str, Any],
) -> None:  # fmt: skip
    """Raise `SurveyError` if a night's exposures are all left out, or lack masters, as far as is known of them yet."""
    numbers = [int(n) for n in rows["EXPNUM"]]
    require_not_excluded(repository, numbers, night)
    steps = options.get("steps")
    steps = steps if steps is None or isinstance(steps, str) else ",".join(steps)
    if not numbers or not set(row.select_steps(steps)) & set(row.frame_steps):
        return
    for dataset in calibrations_needed(row.name):
        apply_overrides(repository, night, dataset)
    require_calibrations(
        repository, night, row.name, calibrations, where=options.get("where", ""),
        partial=options.get("partial", False), exposures=numbers, bands=set(map(str, rows["band"])),
    )  # fmt: skip
