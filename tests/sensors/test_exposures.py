"""The poll of the archive: asks once for what is new, and again for what failed."""

import time

import dagster as dg
import pytest
from astropy.table import Table

from proc_decam_dagster.resources import ArchiveClient, Survey
from proc_decam_dagster.sensors import new_exposures
from proc_decam_dagster.sensors.requests import RUN_KEY_TAG, TRIES, WAIT_SECONDS, is_due, is_over, records_of
from proc_decam_dagster.simulation.server import serve_table


@pytest.fixture
def server(tmp_path, shared_data):
    """An archive with one real night."""
    real = Table.read(shared_data / "archive" / "exposures_object_raw.ecsv", format="ascii.ecsv")
    real[real["night"] == min(real["night"])].write(tmp_path / "archive.ecsv")
    with serve_table(tmp_path / "archive.ecsv") as server:
        yield server


def _run(instance, key: str, status: dg.DagsterRunStatus) -> dg.RunRecord:
    """A run of a request, that ended with a status."""

    @dg.job
    def job():
        pass

    run = instance.create_run_for_job(job, tags={RUN_KEY_TAG: key}, status=dg.DagsterRunStatus.STARTED)
    kind = {dg.DagsterRunStatus.FAILURE: dg.DagsterEventType.PIPELINE_FAILURE,
            dg.DagsterRunStatus.SUCCESS: dg.DagsterEventType.PIPELINE_SUCCESS,
            dg.DagsterRunStatus.CANCELED: dg.DagsterEventType.PIPELINE_CANCELED}[status]  # fmt: skip
    instance.report_dagster_event(dg.DagsterEvent(event_type_value=kind.value, job_name="job"), run.run_id)
    return records_of(instance, [key])[key]


def test_what_is_new_is_asked_for_once_and_again_if_it_failed(server, tmp_path, monkeypatch):
    instance, survey = dg.DagsterInstance.ephemeral(), Survey(data_dir=str(tmp_path))
    resources = {"survey": survey, "archive": ArchiveClient(url=server.url)}

    def tick(cursor=None):
        return new_exposures(dg.build_sensor_context(instance=instance, resources=resources, cursor=cursor))

    first = tick()
    (request,) = first.run_requests
    assert isinstance(tick(first.cursor), dg.SkipReason)
    _run(instance, request.run_key, dg.DagsterRunStatus.FAILURE)
    assert isinstance(tick(first.cursor), dg.SkipReason)  # an archive that is down is given time
    monkeypatch.setattr("proc_decam_dagster.sensors.requests.WAIT_SECONDS", 0)
    second = tick(first.cursor)
    (again,) = second.run_requests
    assert again.run_key != request.run_key
    _run(instance, again.run_key, dg.DagsterRunStatus.SUCCESS)
    assert isinstance(tick(second.cursor), dg.SkipReason)


@pytest.mark.parametrize(
    ("status", "tries", "over", "due"),
    [
        (dg.DagsterRunStatus.SUCCESS, 1, True, False),
        (dg.DagsterRunStatus.CANCELED, 1, True, False),
        (dg.DagsterRunStatus.FAILURE, 1, False, True),
        (dg.DagsterRunStatus.FAILURE, TRIES, True, False),
    ],
)
def test_failures_are_repeated_a_bounded_number_of_times(status, tries, over, due):
    with dg.DagsterInstance.ephemeral() as instance:
        record = _run(instance, "raws-20190401-2-1", status)
        assert is_over(record, tries) is over
        assert is_due(record, tries, now=time.time() + WAIT_SECONDS + 5) is due
        assert not is_due(record, tries)


def test_a_request_without_a_run_is_waited_for():
    assert not is_over(None, 1) and not is_due(None, 1)
