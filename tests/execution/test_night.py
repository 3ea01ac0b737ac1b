"""What a night needs, and nights beside each other."""

import threading

import pytest
from astropy.table import Table
from toy.repository import PIPELINES, add_night

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import NightReport, PipelineReport, run_night, run_nights
from proc_decam_dagster.execution import nights as nights_module
from proc_decam_dagster.execution.nights import within_memory
from proc_decam_dagster.repository import exclude, include
from proc_decam_dagster.survey.calibration_policy import CalibrationPolicy
from proc_decam_dagster.survey.collections import RAW_ALL


def test_night_whose_exposures_are_known(repository, pool):
    add_night(repository, "20190402", "bias", range(201, 206))
    table = Table(
        {
            "obs_type": ["zero"] * 5, "caldat": ["2019-04-02"] * 5, "md5sum": [str(i) for i in range(5)],
            "archive_filename": ["x"] * 5, "EXPNUM": range(201, 206), "night": [20190402] * 5, "band": ["g"] * 5,
        }
    )  # fmt: skip
    repository.remember_exposures(table)
    report = run_night(repository, "20190402", "bias", pool=pool, pipeline_dir=str(PIPELINES))
    assert report.ok and report.pipeline.quanta == 24 and report.ingested is None
    with pytest.raises(SurveyError, match="20190403"):
        run_night(repository, "20190403", "bias", pool=pool)
    # One without zeros is no failure where another night's bias is to be taken.
    instead = run_night(repository, "20190403", "bias", pool=pool, calibrations=CalibrationPolicy.of(["bias=20190402"]))
    assert instead.ok and instead.pipeline.calibrations == {"bias": "20190402 (1 day earlier)"}
    with pytest.raises(SurveyError, match="no night has one .bias from 20190330"):
        run_night(repository, "20190404", "bias", pool=pool, calibrations=CalibrationPolicy.of(["bias=20190330"]))
    assert RAW_ALL in repository.butler().collections.query("DECam/*")


def test_a_night_that_is_left_out_has_nothing_to_do(repository, pool):
    add_night(repository, "20190402", "bias", range(201, 206))
    repository.remember_exposures(
        Table(
            {
                "obs_type": ["zero"] * 5, "caldat": ["2019-04-02"] * 5, "md5sum": [str(i) for i in range(5)],
                "archive_filename": ["x"] * 5, "EXPNUM": range(201, 206), "night": [20190402] * 5, "band": ["g"] * 5,
            }
        )
    )  # fmt: skip
    exclude(repository, "dome closed", nights="20190402")
    report = run_night(repository, "20190402", "bias", pool=pool, pipeline_dir=str(PIPELINES))
    assert report.ok and report.pipeline is None
    assert "leaves out all 5 exposures of night 20190402: dome closed (entry 1)" in report.left_out
    assert "20190402/bias" not in repository.butler().collections.query("*")
    # Raws of which every CCD is left out, not the exposures themselves.
    include(repository, 1, "it was not")
    exclude(repository, "no volts", detectors=[1, 2, 3, 4])
    report = run_night(repository, "20190402", "bias", pool=pool, pipeline_dir=str(PIPELINES))
    assert report.ok and "leaves out all 20 raws of night 20190402: no volts (entry 3)" in report.left_out


@pytest.mark.parametrize("executions", [1, 3])
def test_failed_night_stops_no_other(monkeypatch, executions):
    threads, told = set(), []

    def night(repository, night, proc_type, *, pool, **options):
        threads.add(threading.current_thread().name)
        if night == "2":
            raise SurveyError("night 2 is cloudy") if proc_type == "bias" else ValueError("bug")
        return NightReport(night, proc_type, PipelineReport("chain"))

    monkeypatch.setattr(nights_module, "run_night", night)
    reports = run_nights(None, ["1", "2", "3"], ("bias", "flat"), executions=executions, finished=told.append)
    assert [(r.night, r.proc_type, r.ok) for r in reports] == [
        ("1", "bias", True), ("1", "flat", True), ("2", "bias", False), ("2", "flat", False),
        ("3", "bias", True), ("3", "flat", True),
    ]  # fmt: skip
    assert reports[2].error == "night 2 is cloudy" and reports[3].error == "ValueError: bug"
    assert len(told) == 6
    assert ("MainThread" in threads) is (executions == 1)


def test_what_breaks_a_callback_is_told_once_all_nights_are_through(monkeypatch):
    ran = []
    monkeypatch.setattr(nights_module, "run_night", lambda *args, **_: ran.append(args[1]) or NightReport(*args[1:]))

    def tell(report):
        if report.night == "1":
            raise BrokenPipeError("stdout")

    with pytest.raises(BrokenPipeError):
        run_nights(None, ["1", "2", "3"], ["bias"], executions=2, finished=tell)
    assert ran == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("asked", "gb", "expected"),
    [((4, 24), 200.0, (4, 24)), ((4, 24), 80.0, (2, 24)), ((2, 8), 6.0, (1, 4)), ((1, 1), 0.5, (1, 1))],
)
def test_memory_bounds_the_workers(asked, gb, expected):
    assert within_memory(*asked, gb) == expected


def test_two_nights_at_once_on_one_repository(repository):
    for i, night in enumerate(("20190402", "20190403")):
        add_night(repository, night, "bias", range(200 + 10 * i, 205 + 10 * i), detectors=(1, 2))
        repository.remember_exposures(
            Table(
                {
                    "obs_type": ["zero"] * 5, "caldat": ["x"] * 5, "md5sum": [f"{i}{j}" for j in range(5)],
                    "archive_filename": ["x"] * 5, "EXPNUM": range(200 + 10 * i, 205 + 10 * i),
                    "night": [int(night)] * 5, "band": ["g"] * 5,
                }
            )
        )  # fmt: skip
    told = []
    reports = run_nights(
        repository, ["20190402", "20190403"], ["bias"], executions=2, jobs=1, pipeline_dir=str(PIPELINES),
        progress=lambda state: told.append(state.step),
    )  # fmt: skip
    assert {"20190402 step1", "20190402 step2", "20190403 step1", "20190403 step2"} == set(told)
    assert [r.error for r in reports] == ["", ""] and all(r.ok for r in reports)
    assert [r.pipeline.quanta for r in reports] == [12, 12]
