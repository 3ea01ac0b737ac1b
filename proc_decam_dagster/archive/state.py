"""`downloaded_<table>.ecsv`: what is known of each downloaded file, in the reference's columns."""

import fcntl
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
    """The state of a download, by md5sum. Several downloads may keep one file: each adds its own rows.

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
        self.rows = self._read()
        self._new: dict[str, dict] = {}

    def path_of(self, md5: str, default: Path) -> Path:
        """Return where a file was put by an earlier download, which may be another folder."""
        row = self.rows.get(md5)
        return Path(str(row["path"])) if row and row["path"] else default

    def verified(self, md5: str, path: Path) -> bool:
        """Whether this very file was found to have its md5."""
        row = self.rows.get(md5)
        return bool(row and row["did_check_disk"] and row["valid_on_disk"] and Path(str(row["path"])) == path)

    def record(self, result) -> None:
        """Take over what became of a file; see `downloads.FileResult`. One that was not tried changes nothing."""
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
        if row != old:
            self.rows[result.md5sum] = self._new[result.md5sum] = row

    def save(self) -> None:
        """Write the table, if anything changed; it appears whole or not at all."""
        if not self._new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            rows = list((self._read() | self._new).values())
            columns = {c: np.array([r[c] for r in rows], dtype=_type(c)) for c in COLUMNS}
            partial = self.path.with_name(self.path.name + ".part")
            Table(columns).write(partial, format="ascii.ecsv", overwrite=True)
            os.replace(partial, self.path)
        self._new = {}

    def _read(self) -> dict[str, dict]:
        if not self.path.exists():
            return {}
        table = read_state(self.path)
        values = zip(*(table[c].tolist() for c in COLUMNS))
        return {row[1]: dict(zip(COLUMNS, row)) for row in values}


def downloaded_md5s(image_dir: str | os.PathLike, exposures_file: str | os.PathLike | None = None) -> set[str]:
    """Return the md5sums of the files that downloads into a folder have verified and that are still there.

    Parameters
    ----------
    image_dir : `os.PathLike`
        Folder of images; the states there and in the folder above are read.
    exposures_file : `os.PathLike`, optional
        The exposure table, whose state stands beside it.
    """
    image_dir = Path(image_dir)
    states = {p.absolute() for folder in (image_dir, image_dir.parent) for p in folder.glob(f"{PREFIX}*.ecsv")}
    if exposures_file is not None and state_file_of(exposures_file).is_file():
        states.add(state_file_of(exposures_file).absolute())
    verified = set()
    for state in states:
        table = read_state(state)
        for path, md5, valid in zip(table["path"].tolist(), table["md5sum"].tolist(), table["valid_on_disk"].tolist()):
            if valid and md5 not in verified and Path(path).is_file():
                verified.add(md5)
    return verified


def _type(column: str) -> type:
    return str if column in ("path", "md5sum") else bool


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
