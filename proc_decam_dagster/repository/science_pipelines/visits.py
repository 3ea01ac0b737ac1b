"""Visits with obs_base's `DefineVisitsTask`: one exposure one visit, regions from obs_decam's camera."""

from collections.abc import Iterable
from typing import Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.science_pipelines.release import stack
from proc_decam_dagster.survey.collections import CALIB


def define_visits(butler: Any, exposures: Iterable[int], instrument: str) -> int:
    """Define visits and return how many were new.

    Raises
    ------
    SurveyError
        If an exposure has got no visit: the task leaves out silently what it takes for no on-sky exposure.
    """
    wanted = sorted(set(exposures))
    base = stack("lsst.obs.base")
    config = base.DefineVisitsConfig()
    stack("lsst.obs.decam").DarkEnergyCamera().applyConfigOverrides(base.DefineVisitsTask._DefaultName, config)
    task = base.DefineVisitsTask(config=config, butler=butler)
    data_ids = [{"instrument": instrument, "exposure": exposure} for exposure in wanted]
    # The camera geometry is searched in these collections; the curated calibrations hold it.
    result = task.run(data_ids, collections=[CALIB], prefilter=True)
    defined = {
        record.id
        for record in butler.query_dimension_records(
            "visit", where=f"instrument='{instrument}' AND visit IN (wanted)", bind={"wanted": wanted}, limit=None,
            explain=False,
        )
    }  # fmt: skip
    if lost := sorted(set(wanted) - defined):
        raise SurveyError(f"exposures {lost} got no visit", "science exposures with a pointing", "leave them out")
    return result.n_new
