"""The survey's Butler repository as a resource: opened lazily, made on first use."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from proc_decam_dagster.resources.survey import absolute

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


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
        return (self.path / "butler.yaml").is_file()

    def open(self) -> "Repository":
        """Open the repository; an error says how to make it."""
        from proc_decam_dagster.repository import open_repository

        return open_repository(self.path)

    def ensure(self) -> "Repository":
        """Open the repository, creating it (instrument, curated calibrations, rings skymap) if it is not there."""
        from proc_decam_dagster.repository import create_repository

        return self.open() if self.exists() else create_repository(self.path, engine=self.engine)

    @classmethod
    def from_environment(cls) -> "ButlerRepository":
        """Return the resource configured by ``PROC_DECAM_REPO`` and ``PROC_DECAM_ENGINE``."""
        return cls(
            root=absolute(os.environ.get("PROC_DECAM_REPO", "repo")),
            engine=os.environ.get("PROC_DECAM_ENGINE", "embedded"),
        )
