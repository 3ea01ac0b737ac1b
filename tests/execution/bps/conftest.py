"""Fixtures: a Slurm cluster that all tests share, and site files for it and for this machine."""

import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from slurm_cluster import SlurmCluster, require_slurm

SLURM_SITE = {
    "computeSite": "cluster",
    "requestMemory": 1024,
    "memoryLimit": 8192,
    "site": {
        "cluster": {
            "class": "proc_decam_dagster.execution.bps.sites.Slurm",
            "cores_per_node": 2, "walltime": "00:20:00", "address": "127.0.0.1",
            "poll_seconds": 2, "heartbeat_threshold": 10,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def cluster():
    """The cluster; without Slurm the test is skipped, but never in CI."""
    require_slurm()
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with SlurmCluster(folder) as cluster:
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm_site(cluster, tmp_path) -> Path:
    """A site file for the cluster."""
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(SLURM_SITE))
    return path
