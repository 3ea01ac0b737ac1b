"""One full-size CCD: a zero, a dome flat and a science exposure, made once for all tests here."""

import pytest


@pytest.fixture(scope="session")
def survey(tmp_path_factory):
    """Folder of a survey of one detector, one night, one exposure of each kind."""
    from proc_decam_dagster.simulation.survey import simulate_survey

    return simulate_survey(
        tmp_path_factory.mktemp("survey"), seed=7, detectors=(35,), template_nights=0, science_nights=1,
        exposures_per_night=1, zeros=1, flats=1, jobs=1,
        linearity=False,  # so that raw numbers can be compared with the truth by division
    )  # fmt: skip
