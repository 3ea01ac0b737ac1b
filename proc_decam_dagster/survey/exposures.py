"""The exposure table: one row a raw file in the archive, as an ECSV file with the columns of proc-decam."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.nights import NIGHT, matching_nights

FILE_NAME = "exposures.ecsv"
MISSING_NAME = "missing_data.ecsv"
REQUIRED = ("obs_type", "caldat", "md5sum", "archive_filename", "EXPNUM", "night", "band")
"""Columns without which a survey cannot be processed; others are kept as they are."""
WRITE_AGAIN = "write it again with `proc-decam exposures`"


def read_exposures(path: str | os.PathLike, required: Iterable[str] = REQUIRED) -> Table:
    """Read an exposure table.

    Raises
    ------
    SurveyError
        If the file is missing or no ECSV table, or lacks a required column.
    """
    path = Path(path)
    if not path.is_file():
        raise SurveyError(
            f"exposure table {path} does not exist", fix="make it with `proc-decam exposures DATA_DIR --proposal-id …`"
        )
    try:
        table = Table.read(path, format="ascii.ecsv")
    except Exception as error:  # astropy raises many types for a malformed file
        raise SurveyError(
            f"{path} cannot be read as ECSV ({error})", "a table written by `proc-decam exposures`", WRITE_AGAIN
        ) from None
    missing = [c for c in required if c not in table.colnames]
    if missing:
        raise SurveyError(
            f"{path} has no column {', '.join(missing)}",
            f"the columns {', '.join(required)}",
            WRITE_AGAIN,
        )
    _check_values(table, path, set(required))
    return table


def _check_values(table: Table, path: Path, required: set[str]) -> None:
    """Raise an error that names the first column of which a value has no meaning: it would poison a repository."""
    for column, pattern, expected in (
        ("EXPNUM", r"\d+", "exposure numbers"),
        ("night", NIGHT.pattern, "nights YYYYMMDD"),
    ):
        if column not in required:
            continue
        for row, value in enumerate(table[column].tolist(), 1):
            if not re.fullmatch(pattern, str(value)):
                raise SurveyError(f"{path}: {column} is {value!r} in row {row}", expected, WRITE_AGAIN)


def write_exposures(table: Table, path: str | os.PathLike) -> None:
    """Write an exposure table; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")  # another process may be writing it too
    try:
        table.write(partial, format="ascii.ecsv", overwrite=True)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def nights_of(table: Table) -> list[str]:
    """Return the nights of a table, sorted."""
    return sorted({str(n) for n in table["night"]})


def select_nights(table: Table, pattern: str) -> Table:
    """Return the rows of the nights that a regular expression matches; an error names the nights there are."""
    return rows_of_nights(table, matching_nights(pattern, nights_of(table)))


def rows_of_nights(table: Table, nights: Iterable[str]) -> Table:
    """Return the rows of the given nights."""
    return table[np.isin(np.asarray(table["night"]).astype(str), list(nights))]


def rows_of_obs_type(table: Table, obs_type: str) -> Table:
    """Return the raw frames of one archive observation type (`object`, `zero`, `dome flat`)."""
    keep = np.asarray(table["obs_type"]).astype(str) == obs_type
    if "proc_type" in table.colnames:
        keep &= np.asarray(table["proc_type"]).astype(str) == "raw"
    return table[keep]


def select_rows(table: Table, selections: Iterable[str]) -> Table:
    """Return the rows that satisfy every ``column=value`` (a regular expression, matched from start to end)."""
    keep = np.ones(len(table), bool)
    for selection in selections:
        column, found, pattern = selection.partition("=")
        if not found or column not in table.colnames:
            raise SurveyError(
                f"selection {selection!r} cannot be applied",
                f"COLUMN=VALUE with a column of {', '.join(table.colnames)}",
            )
        try:
            matches = re.compile(pattern).fullmatch
        except re.error as error:
            raise SurveyError(
                f"selection {selection!r} is no regular expression ({error})", "one, such as night=2019.*"
            ) from None
        keep &= np.array([matches(str(v)) is not None for v in table[column]], dtype=bool)
    return table[keep]


def file_name(row) -> str:
    """Return the name under which a row's file is downloaded, ``{md5}_{archive name}``."""
    return f"{row['md5sum']}_{os.path.basename(str(row['archive_filename']))}"


def holds_rows(known: Table, table: Table) -> bool:
    """Whether a table has every row of another, by md5sum, with the same values: to merge it would change nothing."""
    place = {str(md5): i for i, md5 in enumerate(known["md5sum"])}
    rows = [place.get(str(md5), -1) for md5 in table["md5sum"]]
    if -1 in rows or not set(table.colnames) <= set(known.colnames):
        return False
    for name in known.colnames:
        ours = _values(known[name][rows])
        theirs = _values(table[name]) if name in table.colnames else np.ma.masked_all(len(rows), ours.dtype)
        hidden = np.ma.getmaskarray(ours)
        same = (ours.data == theirs.data) | (ours.data != ours.data) & (theirs.data != theirs.data)
        if not (np.array_equal(hidden, np.ma.getmaskarray(theirs)) and np.all(same | hidden)):
            return False
    return True


def _values(column) -> np.ma.MaskedArray:
    return np.ma.asarray(column.isot if hasattr(column, "isot") else column)


def merge_exposures(old: Table | None, new: Table) -> Table:
    """Return the union of two tables by md5sum, the newer row winning, sorted by exposure number."""
    if old is not None and len(old):
        old = old[~np.isin(np.asarray(old["md5sum"]).astype(str), np.asarray(new["md5sum"]).astype(str))]
        new = vstack([old, new], metadata_conflicts="silent") if len(old) else new
    return new[np.lexsort((np.asarray(new["md5sum"]).astype(str), np.asarray(new["EXPNUM"])))]
