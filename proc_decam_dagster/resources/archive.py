"""The NOIRLab archive, and the servers of reference catalogues and bad-pixel masks, as a resource."""

import os
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from proc_decam_dagster.archive import Archive


class ArchiveClient(dg.ConfigurableResource):
    """Addresses; empty means the real ones. Credentials come from the environment, never from here."""

    url: str = Field(default="", description="Address of the archive's API")
    refcat_url: str = Field(default="", description="Address of the reference catalogues")
    mask_url: str = Field(default="", description="Address of the bad-pixel masks")
    connections: int = Field(default=4, description="Files downloaded at once")

    def open(self) -> "Archive":
        """Return a client."""
        from proc_decam_dagster.archive import Archive

        return Archive(self.url or None)

    @classmethod
    def from_environment(cls) -> "ArchiveClient":
        """Return the resource configured by ``PROC_DECAM_{ARCHIVE,REFCAT,BPM}_URL``."""
        return cls(
            url=os.environ.get("PROC_DECAM_ARCHIVE_URL", ""),
            refcat_url=os.environ.get("PROC_DECAM_REFCAT_URL", ""),
            mask_url=os.environ.get("PROC_DECAM_BPM_URL", ""),
        )
