"""Nights and conditions."""

from datetime import date, timedelta

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.simulation.headers import iso
from proc_decam_dagster.simulation.plan import SEEING, SurveyPlan, exposures_of_night, horizontal


def all_exposures(plan):
    return [e for n, (night, kind) in enumerate(plan.nights()) for e in exposures_of_night(plan, n, night, kind)]


@pytest.mark.parametrize("sky", [(149.4, 1.7), (0.01, -30.0), (215.9, -13.6), (340.0, -60.0), (158.9, 0.0)])
def test_field_is_high_at_night_and_all_frames_are_of_their_night(sky):
    exposures = all_exposures(SurveyPlan(sky=sky))
    assert len({e.expnum for e in exposures}) == len(exposures) == 3 * (6 + 6 + 4)
    for e in exposures:
        # Local noon to noon: UTC less four hours for the zone and twelve for the noon begins the caldat.
        day = date(1858, 11, 17) + timedelta(days=int(e.mjd - 16 / 24))
        assert day.strftime("%Y%m%d") == e.night
        if e.obs_type == "object":
            assert 2 <= (e.mjd % 1) * 24 <= 8.2
            assert horizontal(e.mjd, e.ra, e.dec)[3] < 1.6
            assert abs(e.dec - sky[1]) < 30 / 3600


def test_every_night_has_sharp_and_poor_exposures():
    plan = SurveyPlan(seed=3)
    for night, _ in plan.nights():
        seeing = [e.seeing for e in all_exposures(plan) if e.night == night and e.obs_type == "object"]
        assert SEEING[0] <= min(seeing) < 1.05 < 1.3 < max(seeing) <= SEEING[1]


def test_evening_calibrations_are_dated_like_the_night():
    zero = all_exposures(SurveyPlan())[0]
    assert iso(zero.mjd)[:10].replace("-", "") == zero.night


def test_declination_that_never_rises_is_refused():
    with pytest.raises(SurveyError, match="declination"):
        all_exposures(SurveyPlan(sky=(10.0, 65.0)))


def test_plan_survives_json():
    import json

    plan = SurveyPlan(seed=4, detectors=(1, 2), band="VR")
    assert SurveyPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
