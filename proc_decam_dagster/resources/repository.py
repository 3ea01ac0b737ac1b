"""The survey's Butler repository as a resource: opened lazily, made on first use."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from proc_decam_dagster.resources.survey import absolute

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

CONFIGURATION = "butler.yaml"

_opened: dict[tuple[Path, int, int], "Repository"] = {}


class ButlerRepository(dg.ConfigurableResource):
    """Root of the repository, and the engine that a new one is made with."""

    root: str = Field(default="repo", description="Root folder of the Butler repository")
    engine: Literal["embedded", "science-pipelines"] = Field(
        default="embedded", description="Engine that a new repository is made with; one that is there keeps its own"
    )

    @property
    def path(self) -> Path:
        """Absolute path of the repository's root."""
        return Path(self.root).expanduser().absolute()

    def exists(self) -> bool:
        """Whether a Butler repository is there."""
        return (self.path / CONFIGURATION).is_file()

    def open(self) -> "Repository":
        """Return the repository, opened once a process: an asset and its checks share it. An error says how to make it.

        One that has been made anew in the same place is opened anew.
        """
        from proc_decam_dagster.repository import open_repository

        state = self._state()
        if state not in _opened:
            found = open_repository(self.path)
            state = self._state()  # it may have completed the configuration
            _opened[state] = found
        return _opened[state]

    def _state(self) -> tuple[Path, int, int]:
        """Return what tells one repository from another that has been made in its place."""
        try:
            found = (self.path / CONFIGURATION).stat()
        except OSError:
            return self.path, 0, 0
        return self.path, found.st_ino, found.st_mtime_ns

    def ensure(self) -> "Repository":
        """Open the repository, creating it (instrument, curated calibrations, rings skymap) if it is not there."""
        from proc_decam_dagster.repository import ensure_repository

        ensure_repository(self.path, engine=self.engine)
        return self.open()

    @classmethod
    def from_environment(cls) -> "ButlerRepository":
        """Return the resource configured by ``PROC_DECAM_REPO`` and ``PROC_DECAM_ENGINE``."""
        return cls(
            root=absolute(os.environ.get("PROC_DECAM_REPO", "repo")),
            engine=os.environ.get("PROC_DECAM_ENGINE", "embedded"),
        )
