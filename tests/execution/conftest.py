"""Fixtures: a toy repository with a night of raws, and warm workers that all tests share."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers get this path too

from toy.repository import PIPELINES, ToyRepository, add_night, make_repository

from proc_decam_dagster.execution import WorkerPool

NIGHT = "20190401"
EXPOSURES = (101, 102, 103)


@pytest.fixture(scope="session")
def pool():
    with WorkerPool(2, preload=("toy.tasks",)) as pool:
        yield pool


@pytest.fixture(scope="session")
def template_repository(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "repo"
    repository = make_repository(root)
    add_night(repository, NIGHT, "bias", EXPOSURES)
    repository.butler(writeable=True).collections.register("DECam/calib")
    repository.close()
    return root


@pytest.fixture
def repository(template_repository, tmp_path) -> ToyRepository:
    shutil.copytree(template_repository, tmp_path / "repo")
    repository = ToyRepository(tmp_path / "repo")
    yield repository
    repository.close()


@pytest.fixture
def steps() -> str:
    """The pipeline of several tasks a step."""
    return str(PIPELINES / "steps.yaml")
