"""`run_night`: one night and proc type from its files to its products."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.pipeline import run_pipeline
from proc_decam_dagster.execution.pool import WorkerPool, default_jobs
from proc_decam_dagster.execution.report import NightReport, PipelineReport
from proc_decam_dagster.repository import define_visits, ingest_raws, tag_raws
from proc_decam_dagster.repository.substitutes import provide_instead
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
        If calibrations are missing (the nearest night that has them is named), or the pipeline cannot start.
        Raws that cannot be ingested do not stop the others: `NightReport.error` names them.
    """
    started = time.monotonic()
    row = proc_types.proc_type(proc_type)
    report = NightReport(night, row.name)
    if row.obs_type is not None:
        table = exposures if exposures is not None else repository.known_exposures()
        rows = rows_of_obs_type(rows_of_nights(table, [night]), row.obs_type)
        if not len(rows) and row.certifies and calibrations.provides(row.certifies):
            source = provide_instead(repository, night, row.certifies, calibrations)
            report.pipeline = PipelineReport(row.chain(night), calibrations={row.certifies: source})
            report.seconds = time.monotonic() - started
            return report
        if image_dir is not None:
            if not len(rows):
                raise SurveyError(f"the exposure table has no {row.obs_type} exposures of night {night}")
            cores = pool.jobs if pool else jobs or default_jobs()
            report.ingested = ingest_raws(repository, rows, image_dir, transfer=transfer, jobs=cores)
        elif exposures is not None:
            repository.remember_exposures(exposures)
        tag_raws(repository, night, row.name)
        if row.name == "drp":
            define_visits(repository, night)
    report.pipeline = run_pipeline(
        repository, row.name, night, jobs=jobs, pool=pool, calibrations=calibrations, **options
    )
    if report.ingested is not None and not report.ingested.ok:
        try:
            report.ingested.raise_on_failure()
        except SurveyError as error:
            report.error = str(error)
    report.seconds = time.monotonic() - started
    return report
