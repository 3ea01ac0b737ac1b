"""Fixtures: the toy repository of `tests/execution`, in which a night was processed and a part of it failed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "execution"))  # workers get this path too

from toy.repository import PIPELINES, ToyRepository, add_night, make_repository

from proc_decam_dagster.execution import WorkerPool, run_pipeline

NIGHT, EMPTY = "20190401", "20190402"


@pytest.fixture(scope="session")
def failed_night(tmp_path_factory) -> ToyRepository:
    """A repository with a night whose CCD 2 failed in a bias, and a night of which nothing was run."""
    repository = make_repository(tmp_path_factory.mktemp("toy") / "repo")
    add_night(repository, NIGHT, "bias", (101, 102, 103))
    add_night(repository, EMPTY, "bias", (201,))
    repository.butler(writeable=True).collections.register("DECam/calib")
    with WorkerPool(2, preload=("toy.tasks",)) as pool:
        broken = {"cpBiasIsr:bad": [2], "cpBiasIsr:mode": "error"}
        run_pipeline(
            repository, "bias", NIGHT, min_frames=3, config=broken, certify=False, pool=pool,
            pipeline_dir=str(PIPELINES),
        )  # fmt: skip
    yield repository
    repository.close()
