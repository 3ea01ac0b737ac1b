"""Visits of a night's science exposures: one exposure one visit, with the regions that spatial joins need."""

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.raws import ingested_exposures, night_exposures
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey.proc_types import PROC_TYPES


def define_visits(repo: Repository, night: str) -> int:
    """Define the visits of a night's science exposures and return how many were new.

    Also registers the survey skymap's tracts that they fall on, if these are not there yet.

    Raises
    ------
    SurveyError
        If none of the night's science exposures is ingested.
    """
    numbers = night_exposures(repo, night, PROC_TYPES["drp"].obs_type)
    ingested = ingested_exposures(repo, numbers)
    if not ingested:
        raise SurveyError(
            f"none of the {len(numbers)} science exposures of night {night} is in {repo.root}",
            fix=f"ingest them with `proc-decam ingest EXPOSURES_FILE -b {repo.root} --image-dir IMAGES`",
        )
    with repo.lock("visits", wait_seconds=600):
        return repo.engine.define_visits(repo.butler(writeable=True), sorted(ingested), repo.settings.skymap)
