"""The registry's Postgres, with the ledger in it, killed in the middle of a step: the step waits, and goes on."""

import importlib.util
import os
import signal
import threading
import time
import uuid
from pathlib import Path

import pytest
from faults import CHAIN, DETECTORS, EXPOSURES, TWICE, Night, moments
from toy.repository import ToyRepository, add_night, make_repository

from proc_decam_dagster.execution import Ledger
from proc_decam_dagster.execution.attempts import FAILED, Attempt, data_id_key
from proc_decam_dagster.repository.repository import Repository

_spec = importlib.util.spec_from_file_location(
    "database_fixtures", Path(__file__).parents[1] / "database" / "conftest.py"
)
database = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(database)
postgres, made, auth_file, served, started = (
    database.postgres, database.made, database.auth_file, database.served, database.started
)  # fmt: skip

NIGHT = "20190401"


@pytest.fixture
def on_postgres(started, tmp_path) -> ToyRepository:
    """A toy repository whose registry is a schema of its own in the server."""
    settings = started.cluster.settings
    url = f"postgresql://127.0.0.1:{settings.port}/{settings.database}"
    registry = {"db": url, "namespace": f"toy_{uuid.uuid4().hex[:8]}"}
    repository = make_repository(tmp_path / "pg" / "repo", DETECTORS, registry)
    add_night(repository, NIGHT, "bias", EXPOSURES, DETECTORS)
    repository.butler(writeable=True).collections.register("DECam/calib")
    yield repository
    repository.close()


def kill_server(cluster) -> None:
    """Kill the server and all its processes, as the kernel does when the memory is at its end."""
    pid = int((cluster.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.parametrize("seeds", TWICE)
def test_sigkill_of_postgres(on_postgres, started, tmp_path, pool, seeds):
    night = Night(on_postgres, tmp_path / "diary")
    process = night.start()
    for moment, chance in moments("postgres", seeds, 1 / 16, 15 / 16):
        night.at(process, moment)
        kill_server(started.cluster)
        time.sleep(chance.uniform(0, 2))
        started.db("start")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert Ledger.of(on_postgres).file is None and not (on_postgres.state_dir / "ledger.sqlite").exists()
    night.complete(pool)


def test_the_ledger_is_for_all_who_have_been_granted_access(started, tmp_path, monkeypatch):
    def attempt(detector):
        data_id = data_id_key({"detector": detector})
        return Attempt("isr", data_id, time.time(), 1, 1, 1, FAILED, "ValueError", "m", False, CHAIN, "r", "s")

    def known(ledger):
        return [a.data_id for a in ledger.attempts(CHAIN)]

    repository = Repository(started.root)
    people = {"vera": (), "edwin": ("--read-only",)}
    for person, words in people.items():
        started.db("grant", person, "--to", tmp_path / f"{person}.yaml", *words)
    with monkeypatch.context() as as_reader:
        as_reader.setenv("LSST_DB_AUTH", str(tmp_path / "edwin.yaml"))
        assert known(Ledger.of(repository)) == []  # nobody has made the tables
    with monkeypatch.context() as as_writer:
        as_writer.setenv("LSST_DB_AUTH", str(tmp_path / "vera.yaml"))
        Ledger.of(repository).record([attempt(1)])
    ledger = Ledger.of(repository)
    ledger.record([attempt(2)])
    assert ledger.place.startswith("postgresql://") and started.password() not in ledger.place
    with monkeypatch.context() as as_reader:
        as_reader.setenv("LSST_DB_AUTH", str(tmp_path / "edwin.yaml"))
        assert known(Ledger.of(repository)) == ['{"detector": 1}', '{"detector": 2}']
        with pytest.raises(Exception, match="permission denied"):
            Ledger.of(repository).record([attempt(3)])


def test_many_writers_make_and_fill_one_ledger(on_postgres):
    def write(ledger, number):
        for i in range(20):
            data_id = data_id_key({"detector": i, "exposure": number})
            ledger.record([Attempt("isr", data_id, time.time(), 1, 1, 1, FAILED, "E", "m", False, CHAIN, "r", "s")])

    threads = [threading.Thread(target=write, args=(Ledger.of(on_postgres), n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Ledger.of(on_postgres).attempts(CHAIN)) == 80
