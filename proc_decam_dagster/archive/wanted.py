"""The files that an exposure table asks for, each once, and the rows that ask for the same thing twice."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from proc_decam_dagster.archive.ledger import Ledger
from proc_decam_dagster.archive.outcomes import Duplicate
from proc_decam_dagster.archive.state import ledger_of_state, state_file_of
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.exposures import FILE_NAME, file_name

MAKE_IT = "make it with `proc-decam exposures`"
SIZE_COLUMNS = ("filesize", "file_size")
"""Columns in which a table may tell a file's bytes."""


@dataclass(frozen=True)
class Wanted:
    """A file that a table asks for."""

    md5: str
    name: str
    path: Path
    obs_type: str = ""
    size: int | None = None


def wanted_files(exposures: Table, directory: Path) -> dict[str, Wanted]:
    """Return the files of an exposure table by md5, each once.

    Raises
    ------
    SurveyError
        If the table lacks a column.
    """
    missing = [c for c in ("md5sum", "archive_filename") if c not in exposures.colnames]
    if missing:
        raise SurveyError(f"the exposure table has no column {', '.join(missing)}", fix=MAKE_IT)
    rows = {c: exposures[c].tolist() for c in ("md5sum", "archive_filename", "obs_type") if c in exposures.colnames}
    size_column = next((c for c in SIZE_COLUMNS if c in exposures.colnames), None)
    sizes = exposures[size_column].tolist() if size_column else [None] * len(exposures)
    kinds = rows.get("obs_type", [""] * len(exposures))
    files: dict[str, Wanted] = {}
    for md5, archive_name, kind, size in zip(rows["md5sum"], rows["archive_filename"], kinds, sizes):
        name = file_name({"md5sum": md5, "archive_filename": archive_name})
        size = int(size) if isinstance(size, (int, float)) and size > 0 else None
        files.setdefault(
            str(md5), Wanted(str(md5), os.path.basename(str(archive_name)), directory / name, str(kind), size)
        )
    return files


def duplicates_in(exposures: Table) -> list[Duplicate]:
    """Return the rows of a table that are the same file, or the same exposure twice under different md5s."""

    def names(rows: Iterable[int]) -> tuple[str, ...]:
        return tuple(file_name(exposures[int(i)]) for i in rows)

    found = []
    md5s = np.asarray(exposures["md5sum"]).astype(str)
    for key, rows in _groups(md5s):
        found.append(Duplicate("content", key, names(rows)))
    if "EXPNUM" in exposures.colnames:
        # An exposure's raw and its instcal are two things.
        kinds = [np.asarray(exposures[c]).astype(str) for c in ("proc_type", "prod_type") if c in exposures.colnames]
        keys = np.asarray([" ".join(p) for p in zip(np.asarray(exposures["EXPNUM"]).astype(str), *kinds)])
        for _, rows in _groups(keys):
            if len(set(md5s[rows])) > 1:
                once = rows[np.unique(md5s[rows], return_index=True)[1]]
                found.append(Duplicate("exposure number", str(exposures["EXPNUM"][int(rows[0])]), names(once)))
    return found


def _groups(keys: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (key, rows) of the keys that occur more than once."""
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    return [(str(keys[rows[0]]), rows) for rows in np.split(order, starts[1:]) if len(rows) > 1]


def open_ledger(directory: Path, state_file: str | os.PathLike | None, *, read_only: bool = False) -> Ledger:
    """Return the ledger that keeps a state file's rows; by default the one in the folder of images."""
    state_file = Path(state_file) if state_file else state_file_of(directory / FILE_NAME)
    return Ledger(ledger_of_state(state_file), state_file, read_only=read_only)
