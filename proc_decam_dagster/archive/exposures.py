"""A survey's exposure table on disk, brought up to date with the archive: for the command and for the asset."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from astropy.table import Table

from proc_decam_dagster.archive.client import Archive
from proc_decam_dagster.archive.query import (
    ARCHIVE_TYPES,
    CALIBRATIONS,
    FLAT,
    OBJECT,
    ZERO,
    Progress,
    add_nearest,
    missing_of_table,
    query_exposures,
)
from proc_decam_dagster.locks import file_lock
from proc_decam_dagster.survey import exposure_changes as changing
from proc_decam_dagster.survey.exposures import FILE_NAME, MISSING_NAME, read_exposures, write_exposures
from proc_decam_dagster.survey.night_summary import SUMMARY_NAME, night_summary

log = logging.getLogger(__name__)

LOCK_NAME = ".exposures.lock"
WAIT_SECONDS = 600.0
"""How long to wait for another process that writes the same tables."""


@dataclass
class SurveyUpdate:
    """What became of a survey's exposure table.

    Attributes
    ----------
    table, missing, nights : `astropy.table.Table`
        As written: the exposures, the calibrations that nights lack, and the nights in figures.
    found : `int`
        Rows that the search found.
    changes : `list`
        Every `survey.exposure_changes.Change`; none at first.
    file : `pathlib.Path`
        The exposure table; the others lie beside it.
    written : `bool`
        Whether the exposure table was written; not if nothing changed.
    """

    table: Table
    missing: Table
    nights: Table
    found: int
    file: Path
    changes: list[changing.Change] = field(default_factory=list)
    written: bool = True

    @property
    def changes_file(self) -> Path:
        """The log of all changes."""
        return self.file.with_name(changing.CHANGES_NAME)

    @property
    def missing_file(self) -> Path:
        """The table of missing calibrations."""
        return self.file.with_name(MISSING_NAME)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by kind of change; a row of which several values changed counts once."""
        kinds = (changing.NEW, changing.CHANGED, changing.VANISHED, changing.RETURNED)
        return {kind: len({c.md5sum for c in self.changes if c.change == kind}) for kind in kinds}

    @property
    def summary(self) -> str:
        """The changes in one line; empty if there are none."""
        return ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)


def update_exposures(
    archive: Archive,
    directory: str | os.PathLike,
    proposals: str | Iterable[str],
    *,
    obs_types: Sequence[str] = (OBJECT, ZERO, FLAT),
    proc_types: Sequence[str] = ("raw",),
    dates: tuple[str, str] | None = None,
    instrument: str = "decam",
    progress: Progress | None = None,
) -> SurveyUpdate:
    """Search the archive and bring the tables in a folder up to date; see `query.query_exposures` for the parameters.

    Written are ``exposures.ecsv``, ``missing_data.ecsv``, ``exposures_nights.ecsv``, and, once anything changed,
    ``exposures_changes.ecsv``, to which each later change is added. Rows of earlier searches stay: those that this one
    did not look for without a word, those that it should have found and did not as ``vanished``. A table to which
    nothing happened is not written again.

    What another process has found in the meantime stays: the folder is locked from reading its tables to writing them.

    Raises
    ------
    SurveyError
        As `query.query_exposures` does, or if the table in the folder cannot be read; nothing is written then.
    """
    directory = Path(directory)
    proposals = [proposals] if isinstance(proposals, str) else list(proposals)
    new, _ = query_exposures(
        archive, proposals, instrument=instrument, obs_types=obs_types, proc_types=proc_types, dates=dates,
        progress=progress,
    )  # fmt: skip
    with file_lock(directory / LOCK_NAME, str(directory), wait_seconds=WAIT_SECONDS, on_wait=log.info):
        return _update(archive, directory, new, proposals, obs_types, proc_types, dates, instrument, progress)


def _update(
    archive: Archive, directory: Path, new: Table, proposals: list[str], obs_types: Sequence[str],
    proc_types: Sequence[str], dates: tuple[str, str] | None, instrument: str, progress: Progress | None,
) -> SurveyUpdate:  # fmt: skip
    """Bring the tables up to date with what a search has found."""
    file, log_file = directory / FILE_NAME, directory / changing.CHANGES_NAME
    old = read_exposures(file) if file.is_file() else None
    scope = None
    if old is not None:
        nights = set(new["night"].tolist())
        scope = changing.in_scope(old, proposals, obs_types, proc_types, CALIBRATIONS, nights, dates)
    table, changes = changing.update_table(old, new, scope)
    missing_file = directory / MISSING_NAME
    before = set(read_exposures(missing_file, ())["observation_type"].tolist()) if missing_file.is_file() else set()
    sought = {*obs_types, *table["obs_type"].tolist(), *(ARCHIVE_TYPES[kind] for kind in before & set(ARCHIVE_TYPES))}
    missing = missing_of_table(table, sought)
    missing = add_nearest(archive, missing, instrument=instrument, progress=progress)
    nights = night_summary(table)
    logged = changing.read_changes(log_file)
    told = changing.not_yet_told(changes, logged, new["md5sum"].tolist())
    if told:  # before the table: a change that was not logged would never be found again
        when = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        write_exposures(changing.add_to_log(logged, told, when), log_file)
    different = any(c.change != changing.VANISHED for c in changes)
    written = old is None or different or old.colnames != table.colnames or len(old) != len(table)
    if written:
        write_exposures(table, file)
    write_exposures(missing, missing_file)
    write_exposures(nights, directory / SUMMARY_NAME)
    returned = [c for c in told if c.change == changing.RETURNED]
    return SurveyUpdate(table, missing, nights, len(new), file, changes + returned, written)
