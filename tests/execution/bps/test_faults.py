"""Kills at random moments of a step on a real Slurm: the same command completes it, and nothing is lost or doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from proc_decam_dagster.execution import Ledger
from proc_decam_dagster.execution.bps import unfinished
from proc_decam_dagster.execution.bps.submission import PROCESS, read_json

NIGHT = "20190401"
CHAIN = f"{NIGHT}/bias"
DRIVE = Path(__file__).with_name("drive.py")
QUANTA = 24
SECONDS = 0.5
"""How long a quantum takes: long enough to be hit."""
WORKERS = "process_worker_pool"
"""Parsl's program of the workers in a Slurm job."""


def start_driver(repository, steps: str, site: Path) -> subprocess.Popen:
    """Start a driver of a step."""
    given = {"root": str(repository.root), "pipeline": steps, "step": "chainOfTwo", "site": str(site),
             "config": {"first:seconds": SECONDS, "second:seconds": SECONDS}}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(DRIVE), json.dumps(given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def told(repository) -> int:
    """Return how much jobs have written down of their quanta."""
    return sum(r.stat().st_size for r in repository.state_dir.glob("bps/*/submit_*/records/*.jsonl"))


def wait_until_begun(repository, driver: subprocess.Popen, before: int = 0) -> None:
    """Wait until the first quantum runs; or the next one, if there is one left."""
    while told(repository) <= before:
        if before and driver.poll() == 0:
            return
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.1)


def processes_of(repository, program: str) -> list[int]:
    """Return the processes that run a program for a repository."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
            if program in line and str(repository.root) in line and "bash" not in line.split("\0")[0]:
                found.append(int(entry.name))
    return found


def sessions(repository) -> set[int]:
    """Return the sessions of the workflows' processes, which all that they start here is part of."""
    return {read_json(path)["pid"] for path in repository.state_dir.glob(f"bps/*/submit_*/{PROCESS}")}


def members(wanted: set[int]) -> list[str]:
    """Return the processes of some sessions that live, as the system tells of them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (entry / "stat").read_text()
            state, _, _, session = told.rpartition(")")[2].split()[:4]
            if int(session) in wanted and state not in "XZ":  # dead, and not yet taken note of by its parent
                found.append(told)
    return found


def ended(left, what: str) -> None:
    """Wait until nothing is left."""
    deadline = time.monotonic() + 60
    while found := left():
        assert time.monotonic() < deadline, f"{what}: {found}"
        time.sleep(0.5)


def kill(pids) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def cancel_block(cluster, repository, driver) -> None:
    cluster.cancel_all()


def kill_job(cluster, repository, driver) -> None:
    kill(processes_of(repository, "execution.bps.job")[:1])


def kill_workflow(cluster, repository, driver) -> None:
    kill(sessions(repository))


def kill_driver(cluster, repository, driver) -> None:
    kill([driver.pid])


def stop_controller(cluster, repository, driver) -> None:
    cluster.stop_controller()
    time.sleep(8)
    cluster.start_controller()


FAULTS = (cancel_block, kill_job, kill_workflow, kill_driver, stop_controller)


def cases():
    """Yield (fault, seeds): two moments of each in one step, and with --full eight more."""
    for fault in FAULTS:
        yield pytest.param(fault, (0, 1), id=f"{fault.__name__}-0-1")
        for seed in range(2, 10):
            yield pytest.param(fault, (seed,), id=f"{fault.__name__}-{seed}", marks=[pytest.mark.full])


@pytest.mark.parametrize(("fault", "seeds"), cases())
def test_the_same_command_completes_it(repository, steps, cluster, slurm_site, fault, seeds):
    driver, before, begun = start_driver(repository, steps, slurm_site), 0, set()
    for seed in seeds:
        wait_until_begun(repository, driver, before)
        begun |= sessions(repository)
        # From the first quantum to the last there are QUANTA / 4 workers' turns, and imports.
        longest = SECONDS * QUANTA / 3 if len(seeds) == 1 else SECONDS * QUANTA / 12
        time.sleep(random.Random(f"{fault.__name__}{seed}").uniform(0, longest))
        before = told(repository)
        fault(cluster, repository, driver)
        if fault is kill_driver and seed != seeds[-1]:
            driver.communicate(timeout=600)
            driver = start_driver(repository, steps, slurm_site)
            next(line for line in driver.stderr if "found the workflow" in line)
    out, error = driver.communicate(timeout=600)
    for _ in range(3):
        if driver.returncode == 0 and json.loads(out)["ok"]:
            break
        driver = start_driver(repository, steps, slurm_site)
        out, error = driver.communicate(timeout=600)
    assert driver.returncode == 0, error
    assert json.loads(out)["ok"], out
    butler = repository.butler()
    butler.registry.refresh()
    for dataset_type in ("one", "two", "first_metadata", "second_metadata", "first_log", "second_log"):
        refs = butler.query_datasets(dataset_type, collections=CHAIN, find_first=False, limit=None)
        where = Counter((ref.dataId["exposure"], ref.dataId["detector"]) for ref in refs)
        assert len(where) == QUANTA // 2 and set(where.values()) == {1}, dataset_type
        assert all(butler.stored_many(refs).values())
    # No file is there that the registry does not know.
    known = {butler.getURI(r).ospath for t in ("one", "two")
             for r in butler.query_datasets(t, collections=CHAIN, find_first=False, limit=None)}  # fmt: skip
    assert {str(p) for t in ("one", "two") for p in (repository.root / CHAIN).glob(f"**/{t}/**/*.yaml")} <= known
    attempts = Ledger.of(repository).attempts(CHAIN)
    succeeded = Counter((a.task, a.data_id) for a in attempts if a.outcome == "succeeded")
    assert len(succeeded) == QUANTA and set(succeeded.values()) == {1}
    assert all(a.exception == "Lost" for a in attempts if a.outcome != "succeeded")
    assert not unfinished(repository.state_dir)
    assert not processes_of(repository, "execution.bps.job")
    assert begun
    ended(lambda: members(begun) or processes_of(repository, WORKERS), "processes are left")
    if fault is stop_controller:
        # Killed before it had written down that a job was cancelled it takes that for running, and nobody would end it.
        cluster.cancel_all()
    ended(cluster.jobs, "Slurm jobs are left")


def test_ctrl_c_leaves_the_workflow_running_and_cancel_ends_it(repository, steps, cluster, slurm_site):
    driver = start_driver(repository, steps, slurm_site)
    wait_until_begun(repository, driver)
    assert processes_of(repository, WORKERS)
    driver.send_signal(signal.SIGINT)
    _, error = driver.communicate(timeout=120)
    assert driver.returncode != 0 and "goes on" in error and f"proc-decam cancel {repository.root} {CHAIN}" in error
    (workflow,) = unfinished(repository.state_dir, CHAIN)
    assert workflow.submissions[-1].alive()
    assert workflow.cancel() and not workflow.submissions[-1].alive()
    assert not cluster.jobs() and not processes_of(repository, "execution.bps.job")
    assert not workflow.cancel()
    # The next driver takes in what had finished, and says that it was cancelled; the one after that runs the rest.
    driver = start_driver(repository, steps, slurm_site)
    out, error = driver.communicate(timeout=600)
    assert driver.returncode == 0, error
    assert json.loads(out)["ok"]
    attempts = Ledger.of(repository).attempts(CHAIN)
    assert {a.outcome for a in attempts} <= {"succeeded", "interrupted"}
