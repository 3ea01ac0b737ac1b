"""Ctrl-C and SIGTERM on a program that runs a step: what had finished is registered, and no worker stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proc_decam_dagster.execution import Ledger, run_step
from proc_decam_dagster.interrupts import deferred

PROGRAM = """
import sys
from toy.repository import ToyRepository
from proc_decam_dagster.execution import run_step, WorkerPool
repository = ToyRepository(sys.argv[1])
with WorkerPool(1, preload=("toy.tasks",)) as pool:
    run_step(repository, "bias", "20190401", "first", pipeline=sys.argv[2], pool=pool, config={"first:seconds": 0.5},
             progress=lambda p: print(p.done, *pool.pids, flush=True))
"""


def gone(pid, seconds=10):
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_what_finished_registered(repository, pool, steps, number):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(repository.root), steps], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        done, pid = map(int, line.split())
        if done == 3:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert gone(pid)

    refs = repository.butler().query_datasets("one", collections="20190401/bias", explain=False)
    assert len(refs) == 3
    attempts = Ledger.of(repository).attempts("20190401/bias")
    assert [a.outcome for a in attempts[:3]] == ["succeeded"] * 3
    assert {a.outcome for a in attempts[3:]} <= {"interrupted"}  # none if the signal came between two quanta
    assert not list((repository.state_dir / "graphs").iterdir())

    report = run_step(repository, "bias", "20190401", "first", pipeline=steps, pool=pool)
    assert report.ok and report.tasks["first"].skipped == 3 and report.quanta == 9


def test_interrupts_wait_for_what_must_not_be_cut():
    done = False
    with pytest.raises(KeyboardInterrupt), deferred():
        signal.raise_signal(signal.SIGINT)
        done = True
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
