"""Faults: afterwards the same command completes the step, and nothing was lost, made twice or certified early."""

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from faults import CHAIN, TWICE, Night, moments
from toy.repository import ToyRepository

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import Ledger, run_pipeline, run_step
from proc_decam_dagster.execution.attempts import FAILED, LOST
from proc_decam_dagster.execution.pool import WorkerPool

NIGHT = "20190401"
MOMENTS = [pytest.param(seed, marks=[pytest.mark.full] if seed > 2 else []) for seed in range(1, 11)]
ONE_FRAME = "exposure=101 and detector=1"


@pytest.fixture
def night(repository, tmp_path) -> Night:
    return Night(repository, tmp_path / "diary")


@pytest.mark.parametrize("seeds", TWICE)
def test_sigkill_of_a_worker(night, pool, seeds):
    process = night.start()
    for moment, chance in moments("worker", seeds, 1 / 16, 1):
        pids = night.at(process, moment)
        with suppress(ProcessLookupError):  # the one that was killed before
            os.kill(chance.choice(pids), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    night.complete(pool)


@pytest.mark.parametrize("seed", MOMENTS)
def test_sigkill_of_the_driver(night, pool, seed):
    chance = random.Random(f"driver {seed}")
    process = night.start()
    night.at(process, chance.uniform(0, 1))
    process.kill()
    process.communicate(timeout=120)
    night.complete(pool)


def test_lost_quanta_are_known_and_run_again(night, pool, repository):
    night.options["config"]["cpBiasIsr:seconds"] = 0.6
    process = night.start()
    night.at(process, 0.25)
    while len(list(night.diary.iterdir())) < 5:  # until the fifth has begun
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=120)
    ledger = Ledger.of(repository)
    lost = [a for a in ledger.take_in() if a.outcome == LOST]
    assert 1 <= len(lost) <= 2 and all(a.transient and str(process.pid) in a.message for a in lost)
    failed = ledger.failed(CHAIN, ["cpBiasIsr"])
    assert len(failed) == len(lost) and all(f.lost for f in failed.values())
    night.complete(pool)


def test_memory_is_doubled_until_it_is_enough(repository, steps):
    config = {"first:bad": [1], "first:mode": "allocate", "first:megabytes": 1600}
    with WorkerPool(2, preload=("toy.tasks",)) as pool:
        report = run_step(
            repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, pool=pool, config=config, memory_mb=600.0,
            where="exposure=101",
        )  # fmt: skip
    tries = [a for a in Ledger.of(repository).attempts(CHAIN, "first") if '"detector": 1' in a.data_id]
    assert [a.memory_requested_mb for a in tries] == [600, 1200, 2400]
    assert [a.outcome for a in tries] == ["failed", "failed", "succeeded"]
    assert all(a.exception == "MemoryError" and a.transient for a in tries[:2])
    assert report.ok and report.attempts == report.quanta + 2


def test_memory_stays_doubled_from_run_to_run(repository, steps):
    config = {"first:bad": [1], "first:mode": "allocate", "first:megabytes": 1600}
    options = {"pipeline": steps, "config": config, "memory_mb": 600.0, "where": ONE_FRAME}
    with WorkerPool(1, preload=("toy.tasks",)) as pool:
        first = run_step(repository, "bias", NIGHT, "chainOfTwo", pool=pool, retries=1, **options)
        assert first.failed == 1 and first.blocked == 1
        assert run_step(repository, "bias", NIGHT, "chainOfTwo", pool=pool, **options).ok
    asked = [a.memory_requested_mb for a in Ledger.of(repository).attempts(CHAIN, "first")]
    assert asked == [600, 1200, 2400]


def test_a_quantum_that_hangs_is_ended_and_stops_no_other(repository, pool, steps):
    config = {"first:bad": [2], "first:badExposures": [101], "first:mode": "slow"}
    options = {"pipeline": steps, "pool": pool, "config": config}
    report = run_step(repository, "bias", NIGHT, "chainOfTwo", time_limit=1.5, **options)
    assert report.succeeded == 22 and (report.failed, report.blocked) == (1, 1)
    (failure,) = report.failures
    assert failure.exception == "TimeLimit" and "--time-limit" in failure.action
    assert run_step(repository, "bias", NIGHT, "chainOfTwo", time_limit=1.5, **options).nothing_to_do


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a file system for the test."""
    places = []

    def mount(*words: str) -> Path:
        place = tmp_path / f"mount{len(places)}"
        place.mkdir()
        done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@needs_root
@pytest.mark.parametrize("seed", MOMENTS)
def test_full_disk(night, mounted, tmp_path, pool, seed):
    root = mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs") / "repo"
    shutil.copytree(night.repository.root, root)
    night.repository = ToyRepository(root)
    filler, chance = root.parent / "filler", random.Random(f"disk {seed}")
    # It stands still while the disk is filled, and what it then has left to do needs more than what is left free.
    process = night.start(stop_after=chance.randint(1, 8))
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT).si_code == os.CLD_STOPPED
    with suppress(OSError), open(filler, "wb") as file:  # its workers write as well: the last bytes may not fit
        file.write(bytes(max(shutil.disk_usage(root).free - chance.randrange(0, 10) * 4096, 0)))
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0, "the disk was not full"
    assert "no space left" in errors.lower() or "disk is full" in errors, errors
    filler.unlink()
    night.complete(pool)
    assert not any(a.outcome == FAILED for a in Ledger.of(night.repository).attempts(CHAIN))
    night.repository.close()


@needs_root
def test_a_disk_that_is_nearly_full_is_refused(night, mounted, tmp_path, pool):
    """Before anything is registered: tables that the middleware makes on a full disk would be missing for ever."""
    root = mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs") / "repo"
    shutil.copytree(night.repository.root, root)
    night.repository = ToyRepository(root)
    filler = root.parent / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(root).free - 100_000))
    with pytest.raises(SurveyError, match=r"no space left on the disk of .*: 0\.1 MB are free"):
        run_pipeline(night.repository, "bias", NIGHT, pool=pool, **night.options)
    assert not (root / CHAIN).exists()
    filler.unlink()
    night.complete(pool)
    night.repository.close()


@needs_root
def test_read_only_repository(night, mounted, pool):
    root = night.repository.root
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    place = mounted("--bind", str(root))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    repository = ToyRepository(place)
    with pytest.raises(OSError) as caught:
        run_pipeline(repository, "bias", NIGHT, pool=pool, **night.options)
    assert caught.value.errno == errno.EROFS
    repository.close()
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    night.complete(pool)


def test_a_file_whose_writer_was_killed_is_deleted(night, pool):
    """What a kill between two system calls leaves: the output under the name that it is written to first."""
    process = night.start()
    night.at(process, 0.4)
    process.kill()
    process.communicate(timeout=120)
    written = next(p for p in (night.repository.root / CHAIN).rglob("added*") if p.is_file())
    half = written.with_name("a" * 16 + written.stem + ".tmp" + written.suffix)
    half.write_text("{")
    other = written.with_name("notes.txt")
    other.write_text("somebody's own")
    run_pipeline(night.repository, "bias", NIGHT, pool=pool, **night.options)
    assert not half.exists() and other.exists()
    other.unlink()
    night.complete(pool)
