"""The NOIRLab archive, and the servers of reference catalogues and bad-pixel masks, as a resource."""

import os
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from proc_decam_dagster.archive import Archive


class ArchiveClient(dg.ConfigurableResource):
    """Addresses; empty means the real ones. Credentials come from the environment, never from here."""

    url: str = ""
    refcat_url: str = ""
    mask_url: str = ""
    connections: int = 4

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
