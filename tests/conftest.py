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
    """Leave out the costly cases unless ``--full`` is given; begin with the longest scopes."""
    rank = {scope: place for place, scope in enumerate(SCOPES)}
    items.sort(key=lambda item: rank.get(_scope(item.nodeid.partition("::")[0], config.rootpath), len(rank)))
    if not config.getoption("--full"):
        for item in items:
            if "full" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="costly: run with --full (make test-full)"))


SCOPES = (
    "tests/end_to_end", "tests/execution/bps", "tests/execution", "tests/deploy", "tests/end_to_end/test_dagster.py",
    "tests/end_to_end/test_dagster_faults.py", "tests/end_to_end/bad_input",
)  # fmt: skip
"""Where tests run side by side, what stays in one process because it shares a folder's fixtures or a service. The
longest stand first, because they are begun first; every other folder with a conftest is such a scope, and otherwise
each file."""


def _scope(path: str, root: Path) -> str:
    for scope in sorted(SCOPES, key=len, reverse=True):
        if path == scope or path.startswith(f"{scope}/"):
            return scope
    folder = "/".join(path.split("/")[:2])
    return folder if (root / folder / "conftest.py").is_file() else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Keep the tests of a scope in one process."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid.partition("::")[0], config.rootpath)

    return ByScope(config, log)
