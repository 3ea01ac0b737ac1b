"""The folders and settings of the sample survey, shared by the demo and the Dagster UI that shows it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proc_decam_dagster.simulation.server import ArchiveServer

CHECKOUT = Path(__file__).resolve().parents[1]
SURVEY, PROPOSAL = "demo", "2019A-0337"


@dataclass(frozen=True)
class Folders:
    """Where the sample survey lives."""

    root: Path

    @property
    def sky(self) -> Path:
        """The simulated survey and its truth: what the archive server serves."""
        return self.root / "archive"

    @property
    def data(self) -> Path:
        """What is downloaded from the archive."""
        return self.root / "data"

    @property
    def repository(self) -> Path:
        """The Butler repository."""
        return self.root / "repo"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance: runs, events, partitions."""
        return self.root / "dagster_home"

    @property
    def pictures(self) -> Path:
        """Pictures of the results."""
        return self.root / "pictures"


def environment(folders: Folders, server: "ArchiveServer") -> dict[str, str]:
    """Return the environment variables with which the code location works on the sample survey."""
    return {
        "DAGSTER_HOME": str(folders.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PROC_DECAM_SURVEY": SURVEY,
        "PROC_DECAM_PROPOSALS": PROPOSAL,
        "PROC_DECAM_REPO": str(folders.repository),
        "PROC_DECAM_DATA": str(folders.data),
        "PROC_DECAM_FAKES": str(folders.sky / "fakes.fits"),
        "PROC_DECAM_ARCHIVE_URL": server.url,
        "PROC_DECAM_REFCAT_URL": server.refcats_url,
        "PROC_DECAM_BPM_URL": server.masks_url,
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }


def prepare(folders: Folders) -> None:
    """Make the folders and Dagster's instance configuration."""
    for folder in (folders.data, folders.dagster_home, folders.pictures):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "dagster.yaml", folders.dagster_home / "dagster.yaml")


def apply(variables: dict[str, str]) -> None:
    """Put variables into this process's environment."""
    os.environ.update(variables)
