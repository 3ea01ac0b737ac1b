"""The survey's settings: what to fetch, and the folder that it is kept in."""

import os
from pathlib import Path

import dagster as dg
from pydantic import Field


def absolute(path: str) -> str:
    """Return a path of the environment made absolute; an empty one stays empty."""
    return str(Path(path).expanduser().absolute()) if path else ""


class Survey(dg.ConfigurableResource):
    """Proposals and the data folder (exposure tables, images, masks, reference catalogues)."""

    data_dir: str = Field(default="data", description="Folder of exposure tables, images, masks, reference catalogues")
    proposals: str = Field(default="2019A-0337", description="One proposal id, or several separated by commas")
    fakes: str = Field(default="", description="Table of fakes to inject (RA, DEC, MAG, BAND, EXPNUM); none if empty")
    partial: bool = Field(
        default=False, description="Process nights of which files are still to come, with what is there"
    )

    @property
    def folder(self) -> Path:
        """Absolute path of the data folder."""
        return Path(self.data_dir).expanduser().absolute()

    @property
    def exposures_file(self) -> Path:
        """The exposure table."""
        from proc_decam_dagster.survey.exposures import FILE_NAME  # not at load: it brings astropy

        return self.folder / FILE_NAME

    @property
    def images(self) -> Path:
        """Folder of downloaded raws."""
        return self.folder / "images"

    @property
    def masks(self) -> Path:
        """Folder of bad-pixel masks (``cp/`` and ``des/``)."""
        return self.folder / "bpm"

    @property
    def refcats(self) -> Path:
        """Folder of reference-catalogue shards."""
        return self.folder / "refcats"

    @property
    def proposal_ids(self) -> list[str]:
        """The proposal ids."""
        return [p.strip() for p in self.proposals.split(",") if p.strip()]

    @classmethod
    def from_environment(cls) -> "Survey":
        """Return the resource configured by ``PROC_DECAM_{DATA,PROPOSALS,FAKES,PARTIAL}``."""
        return cls(
            # Absolute as soon as they are read: a run may have another working directory.
            data_dir=absolute(os.environ.get("PROC_DECAM_DATA", "data")),
            proposals=os.environ.get("PROC_DECAM_PROPOSALS", "2019A-0337"),
            fakes=absolute(os.environ.get("PROC_DECAM_FAKES", "")),
            partial=os.environ.get("PROC_DECAM_PARTIAL", "").lower() in ("1", "true", "yes"),
        )
