"""The embedded engine's real steps on a real Slurm, by command lines: the same pixels as on this machine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from sample_survey import PROC_DECAM, certified_detectors

from proc_decam_dagster.execution import Ledger
from proc_decam_dagster.repository import open_repository
from proc_decam_dagster.repository.chains import runs_of
from tests.cli.conftest import TESTS, load

database = load(TESTS / "database" / "conftest.py")
postgres, made, auth_file = database.postgres, database.made, database.auth_file

NIGHT = "20190401"


@pytest.fixture
def folder(sample, tmp_path) -> Path:
    """A folder with a copy of the processed repository, whose images stay where they were."""
    shutil.copytree(sample.repository, tmp_path / "repo")
    return tmp_path


def run(folder: Path, line: str) -> str:
    """Run a command line; return its output."""
    done = subprocess.run(
        [PROC_DECAM, *shlex.split(line)], cwd=folder, env=os.environ, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_a_science_step_makes_the_same_images(folder, cluster, slurm_site):
    run(folder, f"execute repo {NIGHT}/drp --pipeline pipelines/DRP.yaml#step1 --no-skip-existing --site {slurm_site}")
    repository = open_repository(folder / "repo")
    butler, chain = repository.butler(), f"{NIGHT}/drp"
    newest, *_ = runs = [r for r in runs_of(butler, chain) if "/step1/" in r]
    refs = butler.query_datasets("calexp", collections=newest)
    assert len(refs) == 3
    for ref in refs:
        before = butler.get("calexp", ref.dataId, collections=runs[1:])
        assert np.array_equal(butler.get(ref).image, before.image, equal_nan=True)
    attempts = [a for a in Ledger.of(repository).attempts(chain) if a.run == newest]
    assert {(a.backend, a.outcome) for a in attempts} == {("bps", "succeeded")}
    assert {a.host for a in attempts} <= {"n1", "n2"} and all(a.cpu_seconds > 0 for a in attempts)
    repository.close()


def test_a_night_by_a_slurm_job_with_its_registry_in_postgres(
    sample, made, postgres, auth_file, cluster, slurm_site, monkeypatch
):
    """The command itself is a job, its quanta run in others, and what they made is registered in Postgres."""
    monkeypatch.setenv("PROC_DECAM_SITE", str(slurm_site))
    folder, data = made(), sample.folder / "data"
    run(folder, f"db create repo --exposures {data}/exposures.ecsv --port {database.free_port()}")
    run(folder, f"defects repo {data}/bpm")
    night = f"night repo {data}/exposures.ecsv --nights {NIGHT} --proc-types bias --slurm"
    told = run(folder, f"{night} --pipeline-slurm")
    job, log = re.match(r"submitted as Slurm job (\d+); it writes to (\S+);", told).groups()
    until = time.monotonic() + 600
    while job in cluster.jobs():
        assert time.monotonic() < until
        time.sleep(1)
    text = Path(log).read_text()
    assert "succeeded" in text and "error" not in text, text
    assert certified_detectors(folder / "repo", NIGHT, "bias") == {1}
    repository = open_repository(folder / "repo")
    ledger = Ledger.of(repository)
    assert ledger.place.startswith("postgresql://") and not list(repository.state_dir.glob("*.sqlite*"))
    attempts = ledger.attempts(f"{NIGHT}/bias")
    assert {(a.backend, a.outcome) for a in attempts} == {("bps", "succeeded")}
    assert {json.loads(a.data_id)["detector"] for a in attempts} == {1}
    repository.close()
    # The same command here has nothing to do, and the reports are those of any repository.
    assert "nothing to do" in run(folder, night)
    assert re.search(rf"{NIGHT}\s+ok 1\b", run(folder, "status repo"))
    assert "no failures" in run(folder, "failures repo")
