"""Nights beside each other in a program of their own: its workers counted, interrupted, killed, run again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from astropy.table import Table
from toy.repository import PIPELINES, add_night

from proc_decam_dagster.execution import run_nights
from proc_decam_dagster.repository.queries import find_certified

NIGHTS = ("20190402", "20190403", "20190404")
DETECTORS = (1, 2)
QUANTA = len(NIGHTS) * (5 * len(DETECTORS) + len(DETECTORS))
PROGRAM = """
import sys
import click
from toy.repository import ToyRepository
from proc_decam_dagster.cli.mistakes import one_line
from proc_decam_dagster.execution import run_nights

@click.command
@click.pass_context
@click.argument("root")
@click.argument("pipelines")
@click.argument("nights", nargs=-1)
def main(context, root, pipelines, nights):
    with one_line(context):
        for report in run_nights(
            ToyRepository(root), nights, ["bias"], executions=2, jobs=2, pipeline_dir=pipelines,
            config={"cpBiasIsr:seconds": 0.2}, progress=lambda p: print(p.step, p.done, flush=True),
        ):
            print("ended", report.night, report.ok or report.why_not, flush=True)

main()
"""


@pytest.fixture
def start(repository):
    """A function that starts the program on three nights of zeros."""
    tables = []
    for i, night in enumerate(NIGHTS):
        numbers = range(200 + 10 * i, 205 + 10 * i)
        add_night(repository, night, "bias", numbers, detectors=DETECTORS)
        tables += [("zero", night, f"{n:032x}", "x", n, int(night), "g") for n in numbers]
    names = ("obs_type", "caldat", "md5sum", "archive_filename", "EXPNUM", "night", "band")
    repository.remember_exposures(Table(rows=tables, names=names))

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(repository.root), str(PIPELINES), *NIGHTS],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def certified(repository):
    return {n: len(found) for n in NIGHTS if (found := find_certified(repository, "bias", f"{n}/calib/bias"))}


def all_gone(processes, seconds=20.0):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_no_more_workers_than_allowed_for(start, repository):
    process = start()
    most = 0
    while process.poll() is None:
        try:
            servers = psutil.Process(process.pid).children()
            most = max(most, sum(len(server.children()) for server in servers))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert [line for line in out.splitlines() if line.startswith("ended")] == [f"ended {n} True" for n in NIGHTS]
    assert 2 < most <= 4  # more than one night's, never more than two nights of two workers
    assert certified(repository) == dict.fromkeys(NIGHTS, len(DETECTORS))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_all_nights_and_says_how_to_go_on(start, repository, number):
    process = start()
    seen = set()
    for line in process.stdout:
        seen.add(line.split()[0])
        if len(seen) == 2:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors.splitlines()[-1].startswith("error: interrupted; what had finished is kept; run the same command")
    assert all_gone(children) and not certified(repository)

    process = start()
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    # What had finished was not run again.
    assert 0 < sum("step" in line for line in out.splitlines()) < QUANTA
    assert certified(repository) == dict.fromkeys(NIGHTS, len(DETECTORS))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(s, marks=pytest.mark.full) for s in range(2, 10))])
def test_killed_at_any_moment_nothing_is_certified_by_halves(start, repository, pool, seed):
    process = start()
    moment = random.Random(seed).randrange(QUANTA - 1)
    for count, _ in enumerate(process.stdout):
        if count == moment:
            break
    process.kill()
    process.communicate()
    assert set(certified(repository).values()) <= {len(DETECTORS)} and len(certified(repository)) < len(NIGHTS)

    reports = run_nights(repository, NIGHTS, ["bias"], jobs=2, pipeline_dir=str(PIPELINES),
                         config={"cpBiasIsr:seconds": 0.2})  # fmt: skip
    assert [r.why_not for r in reports] == [""] * len(NIGHTS)
    assert certified(repository) == dict.fromkeys(NIGHTS, len(DETECTORS))


def test_a_night_that_fails_stops_no_other(start, repository):
    config = {"cpBiasIsr:bad": [1], "cpBiasIsr:mode": "kill", "cpBiasIsr:badExposures": [210]}
    reports = run_nights(repository, NIGHTS, ["bias"], executions=3, jobs=1, pipeline_dir=str(PIPELINES), config=config)
    assert [r.ok for r in reports] == [True, False, True]
    assert "20190403/bias stopped at step1, where 1 of 10 quanta did not succeed" in reports[1].why_not
    assert certified(repository) == {NIGHTS[0]: 2, NIGHTS[2]: 2}
