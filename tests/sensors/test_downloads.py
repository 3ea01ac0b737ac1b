"""Downloads on an ephemeral instance: which nights are registered, and when their ingestion is requested."""

import dagster as dg
import pytest
from astropy.table import Table

from proc_decam_dagster.archive import ledger_file_of
from proc_decam_dagster.archive.ledger import Ledger
from proc_decam_dagster.archive.outcomes import FileResult, Outcome
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.resources import Survey
from proc_decam_dagster.sensors import new_downloads
from proc_decam_dagster.sensors.requests import RUN_KEY_TAG
from proc_decam_dagster.survey.exposures import file_name, write_exposures


@pytest.fixture
def survey(tmp_path) -> Survey:
    """A survey of two nights with two files each, none downloaded."""
    nights = ["20190401", "20190401", "20190402", "20190402"]
    table = Table(
        {
            "obs_type": ["zero", "object"] * 2,
            "caldat": [f"{n[:4]}-{n[4:6]}-{n[6:]}" for n in nights],
            "md5sum": [c * 32 for c in "abcd"],
            "archive_filename": [f"/net/archive/c4d_{i}.fits.fz" for i in range(4)],
            "EXPNUM": [1, 2, 3, 4],
            "night": [int(n) for n in nights],
            "band": ["", "r", "", "r"],
        }
    )
    survey = Survey(data_dir=str(tmp_path))
    write_exposures(table, survey.exposures_file)
    return survey


def _download(survey: Survey, *rows: int) -> None:
    """Leave files and the state that `download` writes when it has verified them."""
    table = Table.read(survey.exposures_file, format="ascii.ecsv")
    survey.images.mkdir(exist_ok=True)
    paths = [survey.images / file_name(table[r]) for r in rows]
    for path in paths:
        path.write_bytes(b"raw")
    flags = ("valid_on_disk", "valid_in_archive", "did_download", "did_check_archive", "did_check_disk")
    state = {"path": [str(p) for p in paths], "md5sum": [str(table[r]["md5sum"]) for r in rows]}
    Table(state | {flag: [True] * len(rows) for flag in flags}).write(
        survey.images / "downloaded_exposures.ecsv", format="ascii.ecsv", overwrite=True
    )


def _tick(survey: Survey, instance: dg.DagsterInstance):
    return new_downloads(dg.build_sensor_context(instance=instance, resources={"survey": survey}))


def test_nothing_downloaded_is_skipped(survey):
    assert isinstance(_tick(survey, dg.DagsterInstance.ephemeral()), dg.SkipReason)


def test_no_exposure_table_says_what_to_do(tmp_path):
    skipped = _tick(Survey(data_dir=str(tmp_path)), dg.DagsterInstance.ephemeral())
    assert "materialise `exposures`" in skipped.skip_message


def test_a_first_file_registers_its_night_and_requests_nothing(survey):
    _download(survey, 0)
    result = _tick(survey, dg.DagsterInstance.ephemeral())
    (request,) = result.dynamic_partitions_requests
    assert (request.partitions_def_name, list(request.partition_keys)) == (NIGHTS.name, ["20190401"])
    assert not result.run_requests


def test_a_complete_night_is_ingested_once(survey):
    _download(survey, 0, 1, 2)
    instance = dg.DagsterInstance.ephemeral()
    result = _tick(survey, instance)
    assert list(result.dynamic_partitions_requests[0].partition_keys) == ["20190401", "20190402"]
    (request,) = result.run_requests
    assert request.partition_key == "20190401"
    instance.add_dynamic_partitions(NIGHTS.name, ["20190401", "20190402"])
    again = _tick(survey, instance)
    assert not again.dynamic_partitions_requests
    # Dagster launches a run key once.
    assert [r.run_key for r in again.run_requests] == [request.run_key]


def test_a_file_that_vanished_does_not_count(survey):
    _download(survey, 0, 1)
    for path in survey.images.glob("*.fz"):
        path.unlink()
    assert isinstance(_tick(survey, dg.DagsterInstance.ephemeral()), dg.SkipReason)


@pytest.mark.parametrize(("metadata", "asked"), [({"files": 2}, 0), ({"files": 1}, 1), ({}, 1)])
def test_a_night_ingested_by_hand_is_asked_for_only_if_its_files_have_changed(survey, metadata, asked):
    _download(survey, 0, 1)
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions(NIGHTS.name, ["20190401"])
    by_hand = dg.AssetMaterialization("raws", partition="20190401", metadata=metadata)
    instance.report_runless_asset_event(by_hand)
    assert len(getattr(_tick(survey, instance), "run_requests", None) or []) == asked


def test_a_night_that_is_dealt_with_is_not_asked_for_again(survey):
    _download(survey, 0, 1)
    instance = dg.DagsterInstance.ephemeral()
    first = _tick(survey, instance)
    instance.add_dynamic_partitions(NIGHTS.name, ["20190401"])
    context = dg.build_sensor_context(instance=instance, resources={"survey": survey}, cursor=first.cursor)
    assert isinstance(new_downloads(context), dg.SkipReason)


def test_a_file_that_nobody_verified_does_not_count(survey):
    """As rsync leaves it, whole or half: only what the ledger knows can start a run."""
    table = Table.read(survey.exposures_file, format="ascii.ecsv")
    survey.images.mkdir()
    for row in table:
        (survey.images / file_name(row)).write_bytes(b"half")
    assert isinstance(_tick(survey, dg.DagsterInstance.ephemeral()), dg.SkipReason)


def test_a_table_that_cannot_be_read_is_a_failed_tick_of_one_line(survey):
    survey.exposures_file.write_text("no table")
    with pytest.raises(dg.Failure) as failure:
        _tick(survey, dg.DagsterInstance.ephemeral())
    assert str(survey.exposures_file) in failure.value.description and "\n" not in failure.value.description
    assert failure.value.__cause__ is None and failure.value.__suppress_context__


def _stand(survey: Survey, row: int, outcome: Outcome) -> None:
    """Write into the ledger what became of a file that is not there."""
    table = Table.read(survey.exposures_file, format="ascii.ecsv")
    with Ledger(ledger_file_of(survey.exposures_file)) as ledger:
        ledger.record([FileResult(survey.images / file_name(table[row]), str(table[row]["md5sum"]), outcome)])


def _next(survey: Survey, instance: dg.DagsterInstance, result) -> object:
    """Tick again, with what the last tick has kept and registered."""
    for request in getattr(result, "dynamic_partitions_requests", None) or ():
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    context = dg.build_sensor_context(instance=instance, resources={"survey": survey}, cursor=result.cursor)
    return new_downloads(context)


@pytest.mark.parametrize(("outcome", "asked"), [(Outcome.NOT_FOUND, 1), (Outcome.BROKE_OFF, 0)])
def test_a_night_is_ready_when_the_rest_is_never_to_be_had(survey, outcome, asked):
    _download(survey, 0)
    _stand(survey, 1, outcome)
    assert len(_tick(survey, dg.DagsterInstance.ephemeral()).run_requests) == asked


def test_a_partial_night_is_ingested_when_its_files_have_stopped_coming(survey):
    partial = Survey(data_dir=survey.data_dir, partial=True)
    _download(survey, 0)
    instance = dg.DagsterInstance.ephemeral()
    first = _tick(partial, instance)
    assert not first.run_requests
    (request,) = _next(partial, instance, first).run_requests
    assert request.partition_key == "20190401"


def test_late_files_ask_for_the_night_again(survey):
    _download(survey, 0)
    _stand(survey, 1, Outcome.NOT_FOUND)
    instance = dg.DagsterInstance.ephemeral()
    first = _tick(survey, instance)
    _download(survey, 0, 1)  # the archive has found it
    (again,) = _next(survey, instance, first).run_requests
    assert again.partition_key == "20190401" and again.run_key != first.run_requests[0].run_key


def test_a_request_that_failed_is_repeated_later_and_a_few_times_only(survey, monkeypatch):
    @dg.job
    def job():
        pass

    _download(survey, 0, 1)
    instance = dg.DagsterInstance.ephemeral()
    result, keys = _tick(survey, instance), []
    while requests := getattr(result, "run_requests", None):
        keys.append(requests[0].run_key)
        run = instance.create_run_for_job(job, tags={RUN_KEY_TAG: keys[-1]}, status=dg.DagsterRunStatus.STARTED)
        failed = dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_FAILURE.value, job_name="job")
        instance.report_dagster_event(failed, run.run_id)
        context = dg.build_sensor_context(instance=instance, resources={"survey": survey}, cursor=result.cursor)
        instance.add_dynamic_partitions(NIGHTS.name, ["20190401"])
        assert isinstance(new_downloads(context), dg.SkipReason)  # not at once
        monkeypatch.setattr("proc_decam_dagster.sensors.requests.WAIT_SECONDS", 0)
        context = dg.build_sensor_context(instance=instance, resources={"survey": survey}, cursor=result.cursor)
        result = new_downloads(context)
        monkeypatch.undo()
    assert keys == [f"raws-20190401-2-{n}" for n in (1, 2, 3)]


def test_a_tick_does_a_bounded_number_of_nights_and_the_next_goes_on(survey, monkeypatch):
    monkeypatch.setattr("proc_decam_dagster.sensors.downloads.NIGHTS_A_TICK", 1)
    _download(survey, 0, 1, 2, 3)
    instance = dg.DagsterInstance.ephemeral()
    first = _tick(survey, instance)
    assert [r.partition_key for r in first.run_requests] == ["20190401"]
    assert [r.partition_key for r in _next(survey, instance, first).run_requests] == ["20190402"]


def test_a_night_that_is_looked_at_in_vain_keeps_no_other_waiting(survey, monkeypatch):
    monkeypatch.setattr("proc_decam_dagster.sensors.downloads.NIGHTS_A_TICK", 1)
    _download(survey, 0, 1, 2, 3)
    for path in survey.images.glob("[ab]*.fz"):
        path.unlink()
    instance = dg.DagsterInstance.ephemeral()
    context = dg.build_sensor_context(instance=instance, resources={"survey": survey})
    assert isinstance(new_downloads(context), dg.SkipReason)
    context = dg.build_sensor_context(instance=instance, resources={"survey": survey}, cursor=context.cursor)
    assert [r.partition_key for r in new_downloads(context).run_requests] == ["20190402"]


def test_no_more_nights_are_asked_for_at_once_than_a_tick_looks_at(survey, monkeypatch):
    @dg.job
    def job():
        pass

    monkeypatch.setattr("proc_decam_dagster.sensors.downloads.NIGHTS_A_TICK", 1)
    _download(survey, 0, 1, 2, 3)
    instance = dg.DagsterInstance.ephemeral()
    first = _tick(survey, instance)
    (request,) = first.run_requests
    run = instance.create_run_for_job(job, tags={RUN_KEY_TAG: request.run_key}, status=dg.DagsterRunStatus.STARTED)
    assert isinstance(_next(survey, instance, first), dg.SkipReason)
    instance.report_run_canceled(run)
    assert [r.partition_key for r in _next(survey, instance, first).run_requests] == ["20190402"]
