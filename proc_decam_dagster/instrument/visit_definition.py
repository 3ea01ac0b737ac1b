"""Visits: one a science exposure, with the regions of the camera's outline on the sky."""

from collections.abc import Iterable

from lsst.daf.butler import Butler

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.regions import visit_polygons

ONE_TO_ONE = 0
"""Id of the visit system in which every exposure is its own visit; as in obs_base."""
SCIENCE = "science"


def define_visits(butler: Butler, exposures: Iterable[int], instrument: str) -> tuple[int, list[tuple[float, float]]]:
    """Define the visits of those exposures that are science exposures; a visit's id is its exposure's.

    Returns
    -------
    new : `int`
        How many were not defined before.
    pointings : `list` [`tuple` [`float`, `float`]]
        RA and Dec (deg) of all of them.

    Raises
    ------
    SurveyError
        If an exposure's header had no pointing.
    """
    wanted = {"wanted": sorted(set(exposures))}
    where = f"instrument='{instrument}' AND {{}} IN (wanted)"
    records = [
        r
        for r in butler.query_dimension_records(
            "exposure", where=where.format("exposure"), bind=wanted, limit=None, explain=False
        )
        if r.observation_type == SCIENCE
    ]
    defined = {
        r.id
        for r in butler.query_dimension_records(
            "visit", where=where.format("visit"), bind=wanted, limit=None, explain=False
        )
    }
    lost = [r.id for r in records if r.tracking_ra is None or r.tracking_dec is None]
    if lost:
        raise SurveyError(f"exposures {lost} have no pointing", "TELRA and TELDEC in their headers", "leave them out")
    pointings = [(r.tracking_ra, r.tracking_dec) for r in records]
    new = [r for r in records if r.id not in defined]
    visits, definitions, memberships, regions = [], [], [], []
    for r in new:
        region, detectors = visit_polygons(r.tracking_ra, r.tracking_dec)
        visits.append(
            {
                "instrument": instrument, "id": r.id, "day_obs": r.day_obs, "physical_filter": r.physical_filter,
                "name": str(r.id), "seq_num": r.seq_num, "exposure_time": r.exposure_time, "target_name": r.target_name,
                "observation_reason": r.observation_reason, "science_program": r.science_program, "azimuth": r.azimuth,
                "zenith_angle": r.zenith_angle, "region": region, "timespan": r.timespan,
            }
        )  # fmt: skip
        definitions.append({"instrument": instrument, "exposure": r.id, "visit": r.id})
        memberships.append({"instrument": instrument, "visit_system": ONE_TO_ONE, "visit": r.id})
        regions += [
            {"instrument": instrument, "visit": r.id, "detector": d, "region": outline}
            for d, outline in detectors.items()
        ]
    if new:
        registry = butler.registry
        with butler.transaction():
            registry.syncDimensionData(
                "visit_system", {"instrument": instrument, "id": ONE_TO_ONE, "name": "one-to-one"}
            )
            registry.insertDimensionData("visit", *visits)
            registry.insertDimensionData("visit_definition", *definitions)
            registry.insertDimensionData("visit_system_membership", *memberships)
            registry.insertDimensionData("visit_detector_region", *regions)
    return len(new), pointings
