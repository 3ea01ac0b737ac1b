"""Fixtures that every test may use."""

import os
import signal
from pathlib import Path

import pytest

pytest_plugins = ["slurm_cluster"]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
# Processes started in the background by a shell ignore SIGINT, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real DECam data beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real DECam data: {folder} is absent")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full`` runs what ``make test`` leaves out or only samples."""
    parser.addoption("--full", action="store_true", help="run every case, also the costly ones")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of costly cases, and of those that need the Science Pipelines."""
    config.addinivalue_line("markers", "full: costly; runs only with --full")
    config.addinivalue_line("markers", "stack: runs where the LSST Science Pipelines are set up")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the costly cases unless ``--full`` is given."""
    if not config.getoption("--full"):
        for item in items:
            if "full" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="costly: run with --full (make test-full)"))


SLURM = Path("tests/execution/bps")
"""Its tests wait for Slurm most of the time, and take nothing dear from the folder above."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Where tests run side by side, keep those in one process that share a folder's fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0])
            if SLURM in file.parents:
                return str(SLURM)
            folder = Path(*file.parts[:2])
            return str(folder if (config.rootpath / folder / "conftest.py").is_file() else file)

    return ByFolder(config, log)
