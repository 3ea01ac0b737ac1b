"""What a night needs, and nights beside each other."""

import threading

import pytest
from astropy.table import Table
from toy.repository import PIPELINES, add_night, certify_flat

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import NightReport, PipelineReport, run_night, run_nights
from proc_decam_dagster.execution import nights as nights_module
from proc_decam_dagster.execution.night import calibrations_needed, nearest_night_with, require_calibrations
from proc_decam_dagster.survey.collections import RAW_ALL


def test_calibrations_needed_are_those_of_the_input_chain():
    assert calibrations_needed("bias") == []
    assert calibrations_needed("flat") == ["bias"]
    assert calibrations_needed("science") == ["flat", "bias"]
    assert calibrations_needed("diff_drp") == []


def test_nearest_night_is_named(repository):
    for night in ("20190331", "20190405"):
        certify_flat(repository, night, [1])
    assert nearest_night_with(repository, "20190401", "flat") == "20190331"
    assert nearest_night_with(repository, "20190403", "flat") == "20190405"
    assert nearest_night_with(repository, "20190403", "bias") is None
    with pytest.raises(SurveyError) as error:
        require_calibrations(repository, "20190401", "drp")
    assert "no certified bias and no flat" in str(error.value)
    assert "flat: night 20190331 has one" in str(error.value) and "bias: no night has one" in str(error.value)
    assert "--proc-type bias" in str(error.value)


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
    assert RAW_ALL in repository.butler().collections.query("DECam/*")


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
    reports = run_nights(
        repository, ["20190402", "20190403"], ["bias"], executions=2, jobs=1, pipeline_dir=str(PIPELINES)
    )
    assert [r.error for r in reports] == ["", ""] and all(r.ok for r in reports)
    assert [r.pipeline.quanta for r in reports] == [12, 12]
