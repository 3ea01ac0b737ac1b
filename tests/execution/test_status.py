"""Nights and templates at a glance."""

import os

import pytest
from faults import Night
from toy.repository import PIPELINES, add_night

from proc_decam_dagster.execution import Ledger, run_pipeline, run_step
from proc_decam_dagster.execution.standing import standing_of, unit_of
from proc_decam_dagster.execution.status import survey_status

NIGHT, CHAIN = "20190401", "20190401/bias"


@pytest.fixture
def bias(repository):
    """A function that returns how a night's bias stands, in words."""
    return lambda night=NIGHT: str(survey_status(repository).nights[night]["bias"])


def test_a_night_from_missing_to_ok(repository, pool, bias):
    options = {"pool": pool, "pipeline_dir": str(PIPELINES)}
    assert bias() == "missing"
    broken = {"cpBiasIsr:bad": [2], "cpBiasIsr:mode": "error"}
    run_step(repository, "bias", NIGHT, "1", where="detector = 1", **options)
    assert bias() == "partial 0/1 step2 to do"
    run_pipeline(repository, "bias", NIGHT, min_frames=3, config=broken, certify=False, **options)
    assert bias().startswith("partial 0/4")
    assert run_pipeline(repository, "bias", NIGHT, min_frames=3, retry_failed=True, **options).ok
    assert bias() == "ok 4"
    add_night(repository, "20190402", "bias", [201])
    assert bias("20190402") == "missing" and bias() == "ok 4"
    status = survey_status(repository)
    assert list(status.nights) == [NIGHT, "20190402"] and not status.templates
    assert str(status.nights[NIGHT]["drp"]) == "-"


def test_running_then_unfinished_then_ok(repository, pool, bias, tmp_path):
    night = Night(repository, tmp_path / "diary")
    process = night.start(stop_after=4)  # so that it does not go on while it is looked at
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT).si_code == os.CLD_STOPPED
    assert bias() == "running step1"
    assert Ledger.of(repository).running()[0].driver["pid"] == process.pid
    process.kill()
    process.communicate()
    assert bias().startswith("unfinished")
    night.complete(pool)
    assert bias() == "ok 4"


def test_units():
    assert unit_of({"instrument": "DECam", "visit": 7, "detector": 3}) == ("detector", "3")
    assert unit_of({"tract": 1, "patch": 5, "band": "r"}) == ("patch", "1,5")
    assert unit_of({"instrument": "DECam"}) is None


def test_a_detector_is_good_if_all_its_quanta_are():
    state = {
        ("isr", '{"detector": 1, "exposure": 1}'): "succeeded", ("isr", '{"detector": 1, "exposure": 2}'): "skipped",
        ("isr", '{"detector": 2, "exposure": 1}'): "succeeded", ("isr", '{"detector": 2, "exposure": 2}'): "blocked",
    }  # fmt: skip
    standing = standing_of(state, ["r"])
    assert standing["good"] == {"detector": ["1"]} and standing["bad"] == {"detector": ["2"]}
    assert standing["counts"] == {"succeeded": 2, "skipped": 1, "failed": 0, "blocked": 1}
