"""A Butler repository on the cluster: one writer, several at once."""

import multiprocessing
import os
import random
import select
import signal
import time
from dataclasses import replace

import pytest
import sqlalchemy

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.database.server import running
from proc_decam_dagster.repository import Repository, define_visits, ingest_raws, open_repository, tag_raws
from tests.repository.conftest import SCIENCE, make_exposures, write_raw

BATCHES, EXPOSURES = 2, 5
"""What each writer registers: transactions, and exposures of 62 detectors in each."""


def test_a_night_is_ingested(started, tmp_path):
    table = make_exposures(tmp_path / "images")
    repository = open_repository(started.root)
    try:
        assert repository.state_dir == started.root / "proc_decam"
        report = ingest_raws(repository, table, tmp_path / "images")
        assert (report.ingested, report.failed) == (len(table), [])
        assert ingest_raws(repository, table, tmp_path / "images").existing == len(table)
        assert tag_raws(repository, "20190401", "drp") == 4
        assert define_visits(repository, "20190401") == 2
        with repository.butler().query() as query:
            query = query.where("instrument='DECam' AND skymap=s", bind={"s": repository.settings.skymap})
            assert query.data_ids(["visit", "tract"]).any()
    finally:
        repository.close()


def register(root, files, run, begin, outcome):
    """Register exposures in a process of its own."""
    try:
        repository = Repository(root)
        butler, engine = repository.butler(writeable=True), repository.engine
        begin.wait()
        for batch in files:
            engine.ingest_raws(butler, batch, transfer="direct", run=run)
        outcome.put("")
    except BaseException as error:
        outcome.put(f"{type(error).__name__}: {error}")
        raise


def batches_of(root, folder, writers, number):
    """Return each writer's batches of exposures, all of one tiny file of 62 detectors."""
    path = write_raw(folder / "tiny.fits.fz", 845001, SCIENCE, 0, detectors=tuple(DETECTORS))
    repository = open_repository(root)
    template = repository.engine.read_raw(str(path))
    repository.close()

    def file(n: int):
        names = {"id": n, "obs_id": f"ct4m{n}", "group": f"g{n}", "day_obs": 20190500 + number}
        return replace(template, exposure=n, record=template.record | names)

    numbers = iter(range(900000 + 1000 * number, 999999))
    return [[[file(next(numbers)) for _ in range(EXPOSURES)] for _ in range(BATCHES)] for _ in range(writers)]


@pytest.mark.parametrize("writers", [1, 2, 4])
def test_writers_at_once_do_not_hinder_each_other(started, tmp_path, writers):
    """All exposures are of one new day, which every writer finds missing and registers, too."""
    files = batches_of(started.root, tmp_path, writers, writers)
    runs = [f"DECam/raw/{writers}/{n}" for n in range(writers)]
    context = multiprocessing.get_context("fork")
    begin, outcome = context.Barrier(writers + 1), context.Queue()
    processes = [
        context.Process(target=register, args=(started.root, batches, run, begin, outcome))
        for batches, run in zip(files, runs)
    ]
    for process in processes:
        process.start()
    begin.wait(timeout=300)
    assert [outcome.get(timeout=300) for _ in processes] == [""] * writers
    for process in processes:
        process.join(30)
    each = BATCHES * EXPOSURES * len(DETECTORS)
    repository = open_repository(started.root)
    assert [len(repository.butler().query_datasets("raw", run, limit=None)) for run in runs] == [each] * writers
    repository.close()


SEEDS = [seed if seed < 2 else pytest.param(seed, marks=pytest.mark.full) for seed in range(10)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_killed_while_two_write_has_all_of_a_batch_or_nothing(started, tmp_path, seed):
    files = batches_of(started.root, tmp_path, 2, 10 + seed)
    runs = [f"DECam/raw/killed{seed}/{n}" for n in range(2)]
    context = multiprocessing.get_context("fork")
    begin, outcome = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=register, args=(started.root, batches, run, begin, outcome))
        for batches, run in zip(files, runs)
    ]
    for process in processes:
        process.start()
    begin.wait(timeout=300)
    time.sleep(random.Random(seed).uniform(0.0, 0.8))
    os.kill(running(started.cluster, started.cluster.server_user()).pid, signal.SIGKILL)
    for process in processes:
        outcome.get(timeout=300)
        process.join(30)
    started.db("start")

    repository = open_repository(started.root)
    butler = repository.butler(writeable=True)
    for run, batches in zip(runs, files):
        butler.collections.register(run)
        for batch in batches:
            numbers = {file.exposure for file in batch}
            query = {
                "where": "instrument='DECam' AND exposure IN (n)",
                "bind": {"n": sorted(numbers)},
                "explain": False,
            }
            found = len(butler.query_datasets("raw", run, limit=None, **query))
            assert found in (0, EXPOSURES * len(DETECTORS))
            if not found:
                repository.engine.ingest_raws(butler, batch, transfer="direct", run=run)
        assert len(butler.query_datasets("raw", run, limit=None)) == BATCHES * EXPOSURES * len(DETECTORS)
    repository.close()


def test_a_server_killed_in_the_middle_of_a_registration_leaves_no_half_of_a_run(started, tmp_path):
    """A RUN is a row in each of two tables: with the one but without the other it would take no dataset ever."""
    ((batch, _),) = batches_of(started.root, tmp_path, 1, 9)
    server = running(started.cluster, started.cluster.server_user()).pid
    seen = []

    def kill(connection, cursor, statement, *_):
        if statement.startswith("INSERT INTO public.run ") and not seen:
            seen.append(statement)
            os.kill(server, signal.SIGKILL)
            select.select([cursor.connection], [], [], 30)  # until its process that serves us has noticed

    repository = open_repository(started.root)
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", kill)
    try:
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            repository.engine.ingest_raws(repository.butler(writeable=True), batch, transfer="direct", run="half")
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", kill)
        repository.close()
    assert seen
    started.db("start")

    repository = open_repository(started.root)
    repository.engine.ingest_raws(repository.butler(writeable=True), batch, transfer="direct", run="half")
    assert len(repository.butler().query_datasets("raw", "half", limit=None)) == EXPOSURES * len(DETECTORS)
    repository.close()


def test_stopped_server_is_told_with_the_command_that_starts_it(started):
    from proc_decam_dagster.errors import SurveyError

    started.db("stop")
    with pytest.raises(SurveyError, match=rf"proc-decam db status {started.root}.*proc-decam db start"):
        open_repository(started.root)
