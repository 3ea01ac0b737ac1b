"""`downloaded_<table>.ecsv`: what is known of each downloaded file, in the reference's columns."""

import os
from pathlib import Path

import numpy as np
from astropy.table import Table

from proc_decam_dagster.errors import SurveyError

COLUMNS = (
    "path", "md5sum", "did_download", "valid_in_archive", "valid_on_disk", "did_check_archive", "did_check_disk"
)  # fmt: skip
PREFIX = "downloaded_"


def state_file_of(exposures_file: str | os.PathLike) -> Path:
    """Return where the state of an exposure table's download stands: beside it."""
    path = Path(exposures_file)
    return path.with_name(PREFIX + path.name)


class DownloadState:
    """The state of a download, by md5sum. Written whole each time, by one thread.

    Parameters
    ----------
    path : `os.PathLike`
        Its file, which need not exist; rows of files that are not asked for now are kept.

    Raises
    ------
    SurveyError
        If the file is no such table.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path).absolute()
        self.rows: dict[str, dict] = {}
        self._changed = False
        if self.path.exists():
            for row in read_state(self.path):
                self.rows[str(row["md5sum"])] = {c: row[c] for c in COLUMNS}

    def path_of(self, md5: str, default: Path) -> Path:
        """Return where a file was put by an earlier download, which may be another folder."""
        row = self.rows.get(md5)
        return Path(str(row["path"])) if row else default

    def verified(self, md5: str, path: Path) -> bool:
        """Whether this very file was found to have its md5."""
        row = self.rows.get(md5)
        return bool(row and row["did_check_disk"] and row["valid_on_disk"] and Path(str(row["path"])) == path)

    def record(self, result) -> None:
        """Take over what became of a file; see `download.FileResult`. One that was not tried changes nothing."""
        if result.outcome == "not tried":
            return
        old = self.rows.get(result.md5sum, {})
        row = {
            "path": str(result.path),
            "md5sum": result.md5sum,
            "did_download": result.fetched or bool(old.get("did_download", False)),
            "valid_in_archive": result.valid_in_archive,
            "valid_on_disk": result.outcome == "verified",
            "did_check_archive": result.checked_archive or bool(old.get("did_check_archive", False)),
            "did_check_disk": result.checked_disk,
        }
        self._changed |= row != old
        self.rows[result.md5sum] = row

    def save(self) -> None:
        """Write the table, if anything changed; it appears whole or not at all."""
        if not self._changed:
            return
        rows = list(self.rows.values())
        table = Table(
            {
                c: np.array([r[c] for r in rows], dtype=str if c in ("path", "md5sum") else bool)
                for c in COLUMNS
            }
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".part")
        table.write(partial, format="ascii.ecsv", overwrite=True)
        os.replace(partial, self.path)
        self._changed = False


def read_state(path: str | os.PathLike) -> Table:
    """Read such a table.

    Raises
    ------
    SurveyError
        If it cannot be read, or lacks a column.
    """
    try:
        table = Table.read(path, format="ascii.ecsv")
    except Exception as error:  # astropy raises many types for a malformed file
        raise SurveyError(
            f"{path} cannot be read ({error})", "a table written by `proc-decam download`", "move it away"
        ) from None
    missing = [c for c in COLUMNS if c not in table.colnames]
    if missing:
        raise SurveyError(
            f"{path} has no column {', '.join(missing)}", f"the columns {', '.join(COLUMNS)}", "move it away"
        )
    return table
