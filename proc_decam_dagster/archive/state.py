"""`downloaded_<table>.ecsv`: what is known of each downloaded file, in the reference's columns, for other programs."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from astropy.table import Table

from proc_decam_dagster.errors import SurveyError

FLAGS = ("did_download", "valid_in_archive", "valid_on_disk", "did_check_archive", "did_check_disk")
COLUMNS = ("path", "md5sum", *FLAGS)
PREFIX = "downloaded_"
LEDGER = ".ledger.sqlite"
_HEAD = "# %ECSV 1.0\n# ---\n# datatype:\n{columns}# schema: astropy-2.0\n"


def state_file_of(exposures_file: str | os.PathLike) -> Path:
    """Return where the state of an exposure table's download stands: beside it."""
    path = Path(exposures_file)
    return path.with_name(PREFIX + path.name)


def ledger_of_state(state_file: str | os.PathLike) -> Path:
    """Return the ledger that keeps what ``downloaded_<table>.ecsv`` tells."""
    path = Path(state_file)
    return path.with_name(path.stem.removeprefix(PREFIX) + LEDGER)


def ledger_file_of(exposures_file: str | os.PathLike) -> Path:
    """Return where the ledger of an exposure table's files stands: beside it."""
    return ledger_of_state(state_file_of(exposures_file))


def state_of_ledger(ledger_file: str | os.PathLike) -> Path:
    """Return the ECSV file that a ledger is written to."""
    path = Path(ledger_file)
    return path.with_name(f"{PREFIX}{path.name.removesuffix(LEDGER)}.ecsv")


def write_state(path: str | os.PathLike, rows: Iterable[tuple]) -> None:
    """Write such a table from rows in the order of `COLUMNS`; it appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"path": "string", "md5sum": "string"}
    columns = "".join(f"# - {{name: {c}, datatype: {kinds.get(c, 'bool')}}}\n" for c in COLUMNS)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # By hand: a table of 20,000 rows costs astropy seconds, and every download ends with this.
        with open(partial, "w", newline="") as file:
            file.write(_HEAD.format(columns=columns))
            writer = csv.writer(file, delimiter=" ", lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows((p, m, *("True" if f else "False" for f in flags)) for p, m, *flags in rows)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_state(path: str | os.PathLike, required: Iterable[str] = COLUMNS) -> Table:
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
    missing = [c for c in required if c not in table.colnames]
    if missing:
        raise SurveyError(
            f"{path} has no column {', '.join(missing)}", f"the columns {', '.join(COLUMNS)}", "move it away"
        )
    return table
