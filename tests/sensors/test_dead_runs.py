"""Runs whose process is gone are reported failed, and no others."""

import json
import os
import subprocess
import sys
import time

import dagster as dg
import psutil
import pytest

from proc_decam_dagster.sensors.dead_runs import GRPC_TAG, dead_runs


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _started(instance, pid, host="localhost", tags=True):
    """A run that Dagster calls started, with the event that says which process works on it."""

    @dg.op
    def nothing():
        pass

    @dg.job
    def job():
        nothing()

    given = {GRPC_TAG: json.dumps({"host": host, "socket": "/tmp/x"})} if tags else {}
    run = instance.create_run_for_job(job, tags=given, status=dg.DagsterRunStatus.STARTING)
    if pid:
        data = dg._core.events.EngineEventData(metadata={"pid": dg.MetadataValue.text(str(pid))})
        instance.report_engine_event(f"Started process for run (pid: {pid}).", run, data)
    instance.report_dagster_event(
        dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_START.value, job_name="job"), run.run_id
    )
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED
    return run.run_id


def _tick(instance) -> str:
    return dead_runs(dg.build_sensor_context(instance=instance)).skip_message


def test_a_run_whose_process_is_gone_is_reported_failed(gone):
    with dg.DagsterInstance.ephemeral() as instance:
        run = _started(instance, gone)
        assert _tick(instance) == "1 of 1 started runs had died"
        assert instance.get_run_by_id(run).status is dg.DagsterRunStatus.FAILURE
        assert _tick(instance) == "0 of 0 started runs had died"


def test_a_process_that_nobody_buries_is_dead():
    """As in a container without an init."""
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.stdout.read()  # until it has ended
    with dg.DagsterInstance.ephemeral() as instance:
        run = _started(instance, process.pid)
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        _tick(instance)
        assert instance.get_run_by_id(run).status is dg.DagsterRunStatus.FAILURE
    process.wait()


def test_a_run_whose_process_lives_is_left_alone():
    with dg.DagsterInstance.ephemeral() as instance:
        run = _started(instance, os.getpid())
        assert _tick(instance) == "0 of 1 started runs had died"
        assert instance.get_run_by_id(run).status is dg.DagsterRunStatus.STARTED


def test_a_younger_process_of_the_same_number_is_another(monkeypatch):
    """As after a reboot: numbers are given out again."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = _started(instance, os.getpid())
        younger = time.time() + 60
        monkeypatch.setattr("psutil.Process.create_time", lambda _: younger)
        _tick(instance)
        assert instance.get_run_by_id(run).status is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("options", [{"host": "code.example.invalid"}, {"tags": False}])
def test_what_runs_elsewhere_is_not_judged(gone, options):
    with dg.DagsterInstance.ephemeral() as instance:
        _started(instance, gone, **options)
        assert _tick(instance) == "0 of 1 started runs had died"


def test_a_run_without_a_known_process_is_not_judged():
    with dg.DagsterInstance.ephemeral() as instance:
        _started(instance, None)
        assert _tick(instance) == "0 of 1 started runs had died"
