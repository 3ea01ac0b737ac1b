"""Parts of Dagster that die in the middle of a backfill, runs that get into each other's way, and mistakes.

Each case works on a copy of a repository whose nights have raws and nothing else; a night's bias is what is made.
"""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster_services import DEFINITIONS, Services, until
from sample_survey import certified_detectors, copy_repository

from proc_decam_dagster.assets.lineage import asset_key
from proc_decam_dagster.bridge.backfills import request, wanted
from proc_decam_dagster.partitions import NIGHTS, add_nights
from proc_decam_dagster.repository import open_repository
from proc_decam_dagster.survey.proc_types import PROC_TYPES

STATES = dg.DagsterRunStatus
BIAS = asset_key("bias")
ENDED = {BulkActionStatus.COMPLETED_SUCCESS, BulkActionStatus.COMPLETED_FAILED, BulkActionStatus.FAILED}
VICTIMS = ("web", "daemon", "code", "worker")
"""The first two are killed in every run of the tests; with ``--full`` each by itself, and all, as by a power cut."""


@dataclass
class Survey:
    """Nights, and a repository with their raws."""

    folder: Path
    variables: dict[str, str]
    nights: list[str]

    def copied_to(self, folder: Path) -> "Survey":
        """Return the same survey with a repository of its own."""
        repository = folder / "repo"
        copy_repository(Path(self.variables["PROC_DECAM_REPO"]), repository)
        return Survey(folder, {**self.variables, "PROC_DECAM_REPO": str(repository)}, self.nights)

    def check(self) -> None:
        """Each night has one certified bias, which can be read, and nothing half-made beside it."""
        repository = open_repository(self.folder / "repo")
        butler = repository.butler()
        for night in self.nights:
            assert certified_detectors(self.folder / "repo", night, "bias") == {1}
            (ref,) = butler.query_datasets("bias", PROC_TYPES["bias"].chain(night), instrument="DECam", detector=1)
            assert np.isfinite(butler.get(ref).image).all()
        assert not list((self.folder / "repo").rglob("*.tmp"))
        repository.close()


@pytest.fixture(scope="module")
def stock(served, tmp_path_factory) -> Survey:
    """The served survey's zeros, ingested and tagged."""
    from proc_decam_dagster.archive import Archive, download, state_file_of, update_exposures
    from proc_decam_dagster.repository import create_repository, ingest_raws, tag_raws
    from proc_decam_dagster.survey import exposures

    folder = tmp_path_factory.mktemp("faults")
    data, archive = folder / "data", Archive(served.environment["PROC_DECAM_ARCHIVE_URL"], "", "")
    zeros = exposures.rows_of_obs_type(update_exposures(archive, data, ["2019A-0337"]).table, "zero")
    nights = exposures.nights_of(zeros)
    download(archive, zeros, data / "images", jobs=2, state_file=state_file_of(data / exposures.FILE_NAME))
    repository = create_repository(folder / "repo")
    assert not ingest_raws(repository, zeros, data / "images", jobs=1).failed
    for night in nights:
        tag_raws(repository, night, "bias")
    repository.close()
    variables = {"PROC_DECAM_REPO": str(folder / "repo"), "PROC_DECAM_DATA": str(data), "J": "1"}
    return Survey(folder, {**served.environment, **variables}, nights)


@pytest.fixture
def survey(stock, tmp_path) -> Survey:
    return stock.copied_to(tmp_path)


@pytest.fixture
def services(survey, tmp_path):
    made = Services(tmp_path / "home", survey.variables)
    with made.instance() as instance:
        add_nights(instance, survey.nights)
    yield made
    made.stop()


@pytest.fixture
def instance(services):
    with services.instance() as made:
        yield made


def backfill(instance: dg.DagsterInstance) -> str:
    """Ask for the bias of the nights that have none."""
    return request(instance, wanted(instance, ".*", ["bias"], missing=True), title="bias")


def end_of(instance: dg.DagsterInstance, backfill_id: str) -> BulkActionStatus:
    """Wait for the end of a backfill."""
    found = until(lambda: (b := instance.get_backfill(backfill_id)) and b.status in ENDED and b, f"{backfill_id} ends")
    return found.status


def at_work(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """Return the run that is processing, if there is one yet."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=[STATES.STARTED])):
        if any("building the first graph" in event.user_message for event in instance.all_logs(run.run_id)):
            return run
    return None


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """Return the process id of a run's worker."""
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    known = [e.dagster_event.engine_event_data.metadata for e in events]
    return int(next(m["pid"].value for m in known if "pid" in m))


@pytest.mark.parametrize(
    "victims", [VICTIMS[:2], *(pytest.param(v, marks=pytest.mark.full) for v in (*((v,) for v in VICTIMS), VICTIMS))]
)
def test_a_backfill_outlives_the_death_of(victims, survey, services, instance):
    services.start("code", *(["web"] if "web" in victims else []), "daemon")
    asked = backfill(instance)
    run = until(lambda: at_work(instance), "a run is at work")
    for victim in victims:
        if victim == "worker":
            os.kill(process_of(instance, run), signal.SIGKILL)
        else:
            services.kill(victim)
    services.start(*(name for name in ("code", "web", "daemon") if name in victims))
    status = end_of(instance, asked)
    if "worker" in victims:  # seen by the code server, or, where that is gone too, by the sensor `dead_runs`
        assert instance.get_run_by_id(run.run_id).status is STATES.FAILURE
    elif "code" not in victims:
        assert status is BulkActionStatus.COMPLETED_SUCCESS
    # What died is named, nothing is left hanging, and asking again for what is missing completes the nights.
    unfinished = [STATES.QUEUED, STATES.STARTING, STATES.STARTED, STATES.CANCELING]
    assert not instance.get_runs(filters=dg.RunsFilter(statuses=unfinished))
    if instance.get_materialized_partitions(BIAS) != set(survey.nights):
        assert end_of(instance, backfill(instance)) is BulkActionStatus.COMPLETED_SUCCESS
    assert instance.get_materialized_partitions(BIAS) == set(survey.nights)
    survey.check()


def materialising(services: Services, *selections: tuple[str, str]) -> list[subprocess.CompletedProcess]:
    """Materialise assets in processes that all start at once, and return how they ended."""
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", DEFINITIONS, "--select"]
    started = [
        subprocess.Popen(
            [*command, asset, *(["--partition", partition] if partition else [])], env=services.environment,
            cwd=services.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for asset, partition in selections
    ]  # fmt: skip
    said = [process.communicate(timeout=900)[0] for process in started]
    return [subprocess.CompletedProcess(p.args, p.returncode, text) for p, text in zip(started, said, strict=True)]


@pytest.mark.full
def test_four_runs_at_once_on_sqlite(survey, services, instance):
    first, second = survey.nights
    runs = materialising(services, ("bias", first), ("bias", second), ("exposures", ""), ("curated_calibs", ""))
    assert [run.returncode for run in runs] == [0, 0, 0, 0], "\n".join(run.stdout[-2000:] for run in runs)
    assert {run.status for run in instance.get_runs()} == {STATES.SUCCESS} and instance.get_runs_count() == 4
    assert not [run for run in runs if "database is locked" in run.stdout]
    survey.check()


@pytest.mark.full
def test_of_two_processes_at_one_night_one_waits_or_is_refused(survey, services, instance):
    first, second = survey.nights
    runs = materialising(services, ("bias", first), ("bias", first), ("bias", second))
    refused = [run for run in runs if run.returncode]
    assert len(refused) <= 1
    for run in refused:
        assert "lock" in run.stdout
    assert instance.get_materialized_partitions(BIAS) == {first, second}
    survey.check()


@pytest.mark.full
def test_a_code_location_that_fails_to_load_shows_why(survey, tmp_path):
    services = Services(tmp_path / "home", {**survey.variables, "PROC_DECAM_ENGINE": "embeded"})
    try:
        services.start("code", "web")
        why = services.load_error()
    finally:
        services.stop()
    assert "embeded" in why and "'embedded' or 'science-pipelines'" in why


@pytest.mark.full
def test_a_night_that_is_deleted_while_it_is_queued_is_refused(survey, services, instance):
    gone, other = survey.nights
    asked = backfill(instance)  # there is no daemon yet that would take it up
    instance.delete_dynamic_partition(NIGHTS.name, gone)
    services.start("code", "daemon")
    end_of(instance, asked)
    assert gone not in instance.get_materialized_partitions(BIAS)
    assert certified_detectors(survey.folder / "repo", gone, "bias") == set()
    assert end_of(instance, backfill(instance)) is BulkActionStatus.COMPLETED_SUCCESS  # the other night, if need be
    assert certified_detectors(survey.folder / "repo", other, "bias") == {1}
