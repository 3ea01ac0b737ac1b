"""The pool by itself, on a graph of the toy repository."""

import os
import signal
import threading
import time

import pytest
from toy.repository import PIPELINES

from proc_decam_dagster.execution import WorkerPool
from proc_decam_dagster.execution.graph import build_graph, load_pipeline
from proc_decam_dagster.execution.outputs import Outputs
from proc_decam_dagster.execution.pool import PoolStopped
from proc_decam_dagster.execution.worker import Work
from proc_decam_dagster.repository import update_chain

NIGHT = "20190401"


@pytest.fixture
def works(repository, tmp_path):
    """Tasks of a written graph whose quanta take a moment."""
    chain = update_chain(repository, "bias", NIGHT)
    butler = repository.butler(writeable=True)
    pipeline = load_pipeline(str(PIPELINES / "bias.yaml"), "step1", {"cpBiasIsr:seconds": 0.3})
    built = build_graph(butler, pipeline, chain=chain, run="toy/run")
    Outputs(butler, repository.root, built.graph, "toy/run").prepare()
    path = str(tmp_path / "graph.qg")
    built.components.write(path)
    return [Work(path, str(repository.root), quantum) for quantum in built.graph]


def finish(pool, count=1, seconds=60):
    ended, until = [], time.monotonic() + seconds
    while len(ended) < count and time.monotonic() < until:
        ended += pool.wait()
    return ended


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=5):
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_idle_worker_that_was_killed_is_replaced(pool, works):
    pool.submit(works[0])
    assert finish(pool)[0].outcome.ok
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    killed = set(pool.pids)
    assert gone(killed)
    pool.submit(works[1])
    assert finish(pool)[0].outcome.ok and not killed & set(pool.pids)


def test_killed_worker_is_one_lost_task_and_the_other_goes_on(pool, works):
    pool.submit(works[0])
    first = next(w.pid for w in pool._workers if w.work == works[0])
    pool.submit(works[1])
    os.kill(first, signal.SIGKILL)
    ended = {e.work: e for e in finish(pool, 2)}
    assert ended[works[0]].outcome is None and "SIGKILL" in ended[works[0]].message
    assert ended[works[1]].outcome.ok


def test_pool_survives_the_death_of_the_process_that_forks(works):
    with WorkerPool(1, preload=("toy.tasks",)) as pool:
        pool.submit(works[0])
        assert finish(pool)[0].outcome.ok
        server, worker = pool._server.pid, pool.pids
        os.kill(server, signal.SIGKILL)
        pool.submit(works[1])  # the worker lives on
        assert finish(pool)[0].outcome.ok and pool.pids == worker
        os.kill(worker[0], signal.SIGKILL)
        assert gone(worker)
        pool.submit(works[2])
        assert finish(pool)[0].outcome.ok and pool._server.pid != server


def test_workers_are_replaced_by_number_of_quanta(works):
    with WorkerPool(1, preload=("toy.tasks",), max_quanta=2) as pool:
        pids = []
        for work in works[:4]:
            pool.submit(work)
            pids += pool.pids
            assert finish(pool)[0].outcome.ok
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_workers_are_replaced_by_memory(works):
    with WorkerPool(1, preload=("toy.tasks",), max_memory_mb=1) as pool:
        pool.submit(works[0])
        assert finish(pool)[0].outcome.resident_mb > 1 and pool.pids == []


def test_nothing_starts_before_the_first_task_and_nothing_stays_after_close(works):
    pool = WorkerPool(2, preload=("toy.tasks",))
    assert pool._server is None and pool.free == 2
    pool.submit(works[0])
    pids = [*pool.pids, pool._server.pid]
    pool.close()
    assert gone(pids)


def test_workers_come_from_the_process_that_was_started_before(works):
    with WorkerPool(1, preload=("toy.tasks",)) as pool:
        pool.start()
        server = pool._server.pid
        pool.start()
        assert pool.pids == []
        pool.submit(works[0])
        assert finish(pool)[0].outcome.ok and pool._server.pid == server


def test_stop_from_another_thread(pool, works):
    with WorkerPool(1, preload=("toy.tasks",)) as pool:
        pool.submit(works[0])
        threading.Timer(0.05, pool.stop).start()
        with pytest.raises(PoolStopped):
            finish(pool, count=2)


def test_jobs_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("J", "7")
    assert WorkerPool().jobs == 7
    assert WorkerPool(3).jobs == 3
