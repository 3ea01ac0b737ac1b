"""`run_night`: one night and proc type from its files to its products."""

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.pipeline import run_pipeline
from proc_decam_dagster.execution.pool import WorkerPool, default_jobs
from proc_decam_dagster.execution.report import NightReport
from proc_decam_dagster.repository import define_visits, ingest_raws, tag_raws
from proc_decam_dagster.repository.queries import find_certified
from proc_decam_dagster.survey import proc_types
from proc_decam_dagster.survey.collections import calib_collection
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
        if image_dir is not None:
            table = exposures if exposures is not None else repository.known_exposures()
            rows = rows_of_obs_type(rows_of_nights(table, [night]), row.obs_type)
            if not len(rows):
                raise SurveyError(f"the exposure table has no {row.obs_type} exposures of night {night}")
            cores = pool.jobs if pool else jobs or default_jobs()
            report.ingested = ingest_raws(repository, rows, image_dir, transfer=transfer, jobs=cores)
        elif exposures is not None:
            repository.remember_exposures(exposures)
        require_calibrations(repository, night, row.name)
        tag_raws(repository, night, row.name)
        if row.name == "drp":
            define_visits(repository, night)
    report.pipeline = run_pipeline(repository, row.name, night, jobs=jobs, pool=pool, **options)
    if report.ingested is not None and not report.ingested.ok:
        try:
            report.ingested.raise_on_failure()
        except SurveyError as error:
            report.error = str(error)
    report.seconds = time.monotonic() - started
    return report


def calibrations_needed(proc_type: str) -> list[str]:
    """Return the dataset types that must be certified for a night before a proc type can run, from its input chain."""
    prefix = calib_collection("{subset}", "")
    return [name.removeprefix(prefix) for name in proc_types.proc_type(proc_type).inputs if name.startswith(prefix)]


def require_calibrations(repository: "Repository", night: str, proc_type: str) -> None:
    """Raise `SurveyError` if a night lacks calibrations, with the nearest night that has them."""
    missing = [
        name
        for name in calibrations_needed(proc_type)
        if not find_certified(repository, name, calib_collection(night, name))
    ]
    if not missing:
        return
    advice = []
    for name in reversed(missing):  # in the order of processing: bias before flat
        near = nearest_night_with(repository, night, name)
        advice.append(f"{name}: {f'night {near} has one' if near else 'no night has one'}")
    commands = " and ".join(f"`proc-decam night {repository.root} {night} --proc-type {n}`" for n in reversed(missing))
    raise SurveyError(
        f"night {night} has no certified {' and no '.join(reversed(missing))}",
        "what its raws are calibrated with", f"run {commands} first ({'; '.join(advice)})",
    )  # fmt: skip


def nearest_night_with(repository: "Repository", night: str, dataset: str) -> str | None:
    """Return the night nearest in time that has a certified calibration, the earlier one of two; `None` if none has."""

    def day(text: str) -> datetime:
        return datetime.strptime(text, "%Y%m%d")

    collections = repository.butler().collections.query(
        calib_collection("*", dataset), collection_types={CollectionType.CALIBRATION}
    )
    nights = sorted(c.split("/")[0] for c in collections if find_certified(repository, dataset, c))
    return min(nights, key=lambda n: (abs((day(n) - day(night)).days), n), default=None)
