"""What changed between two searches of the archive: the exposure table brought up to date, and each change by name."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from astropy.table import MaskedColumn, Table, vstack

from proc_decam_dagster.survey.nights import night_of

CHANGES_NAME = "exposures_changes.ecsv"
NEW, CHANGED, VANISHED, RETURNED = "new", "changed", "vanished", "returned"
COMPUTED = ("dateobs_midpoint", "mjd", "mjd_midpoint", "night", "RA(deg)", "DEC(deg)", "band")
"""Columns that are made from the archive's: what differs in them differs there."""
COLUMNS = ("change", "EXPNUM", "night", "obs_type", "md5sum", "archive_filename", "column", "old", "new")


@dataclass(frozen=True)
class Change:
    """One difference between the table and the archive; ``column``, ``old`` and ``new`` where a value changed."""

    change: str
    EXPNUM: int
    night: int
    obs_type: str
    md5sum: str
    archive_filename: str
    column: str = ""
    old: str = ""
    new: str = ""

    def __str__(self) -> str:
        value = f" ({self.column}: {self.old or 'nothing'} → {self.new or 'nothing'})" if self.column else ""
        return f"{self.change}: {self.obs_type} {self.EXPNUM} of {self.night}, {self.archive_filename}{value}"


def in_scope(
    table: Table,
    proposals: Iterable[str],
    obs_types: Iterable[str],
    proc_types: Iterable[str],
    calibration_types: Iterable[str],
    nights: Iterable[int],
    dates: tuple[str, str] | None = None,
) -> np.ndarray:
    """Return which rows (bool) a search would find if they were still in the archive.

    Parameters
    ----------
    table : `astropy.table.Table`
    proposals : iterable of `str`
        Regular expressions; of any of them is enough.
    obs_types, proc_types : iterable of `str`
        What was searched for.
    calibration_types : iterable of `str`
        The observation types that are searched by night, whatever their proposal.
    nights : iterable of `int`
        Those nights.
    dates : `tuple` [`str`, `str`], optional
        First and last night.
    """
    texts = {name: _texts(table, name) for name in ("obs_type", "proc_type", "PROPID")}
    wanted = np.isin(texts["obs_type"], list(obs_types))
    calibration = np.isin(texts["obs_type"], list(calibration_types))
    ours = np.array([any(re.search(p, text) for p in proposals) for text in texts["PROPID"]], bool)
    ours &= np.isin(texts["proc_type"], list(proc_types))
    night = np.asarray(table["night"]).astype(int)
    if dates:
        first, last = (int(night_of(d)) for d in dates)
        ours &= (night >= first) & (night <= last)
    return wanted & np.where(calibration, np.isin(night, list(nights)) & (texts["proc_type"] == "raw"), ours)


def update_table(old: Table | None, new: Table, scope: np.ndarray | None = None) -> tuple[Table, list[Change]]:
    """Return the table that holds what a new search found and what was known before, and the changes.

    Nothing is dropped: rows that the archive shows no more are kept and named. Where the archive now gives an exposure
    other values, or another file, the table takes them, and the change says what they were.

    Parameters
    ----------
    old : `astropy.table.Table` or `None`
        What is known; `None` at first: then there are no changes.
    new : `astropy.table.Table`
        What the search found.
    scope : `numpy.ndarray`, optional
        Rows of ``old`` that the search would have found (bool); others are kept without a word. All by default.
    """
    if old is None or not len(old):
        return new, []
    scope = np.ones(len(old), bool) if scope is None else scope
    old_md5, new_md5 = _texts(old, "md5sum"), _texts(new, "md5sum")
    place = {md5: j for j, md5 in enumerate(new_md5)}
    there = np.array([place.get(md5, -1) for md5 in old_md5], int)
    fresh = np.flatnonzero(~np.isin(new_md5, old_md5))
    replaced: dict[int, int] = {}
    by_file = {_file(new[j]): j for j in fresh.tolist()}
    by_exposure = {_exposure(new[j]): j for j in fresh.tolist() if str(new["proc_type"][j]) == "raw"}
    for i in np.flatnonzero(there < 0).tolist():
        found = by_file.get(_file(old[i]), by_exposure.get(_exposure(old[i])))
        if found is not None and found not in replaced.values():
            replaced[i] = found
    changes = [_change(NEW, new[j]) for j in fresh.tolist() if j not in replaced.values()]
    for i, j in replaced.items():
        changes.append(_change(CHANGED, new[j], "md5sum", old_md5[i], new_md5[j]))
    changes += _changed_values(old, new, there)
    gone = [i for i in np.flatnonzero(there < 0).tolist() if i not in replaced]
    changes += [_change(VANISHED, old[i]) for i in gone if scope[i]]
    if not gone:
        return new, changes
    merged = vstack([old[gone], new], metadata_conflicts="silent")
    merged.meta = new.meta
    order = sorted(range(len(merged)), key=list(zip(*_order(merged))).__getitem__)
    return _filled(merged[order]), changes


def read_changes(path: str | os.PathLike) -> Table | None:
    """Return the log of changes, oldest first; `None` if there is none yet."""
    return Table.read(path, format="ascii.ecsv") if os.path.isfile(path) else None


def not_yet_told(changes: list[Change], log: Table | None, listed: Iterable[str]) -> list[Change]:
    """Return what is to be added to the log: a row that stays away is logged once, and once more when it is back.

    Parameters
    ----------
    changes : `list` [`Change`]
    log : `astropy.table.Table` or `None`
    listed : iterable of `str`
        md5 of every row that the archive shows now.
    """
    if log is None:
        return changes
    state: dict[str, dict] = {}
    for row in log:
        if row["change"] in (VANISHED, RETURNED):
            state[str(row["md5sum"])] = row
    away = {md5 for md5, row in state.items() if row["change"] == VANISHED}
    back = [_change(RETURNED, state[md5]) for md5 in sorted(away & set(listed))]
    return [c for c in changes if c.change != VANISHED or c.md5sum not in away] + back


def add_to_log(log: Table | None, changes: list[Change], when: str) -> Table:
    """Return the log with changes added, each with the time at which it was found (UTC)."""
    rows = Table()
    rows["found"] = np.array([when] * len(changes), dtype="U20")
    for name in COLUMNS:
        values = [getattr(c, name) for c in changes]
        rows[name] = np.array(values, dtype=np.int64 if name in ("EXPNUM", "night") else str)
    if log is None or not len(log):
        return rows
    for name in rows.colnames:  # an empty text is read back as a masked one
        if isinstance(log[name], MaskedColumn):
            log[name] = log[name].filled("" if log[name].dtype.kind in "UO" else 0)
        if log[name].dtype.kind != rows[name].dtype.kind:
            log[name] = [str(v) for v in log[name]]
            rows[name] = [str(v) for v in rows[name]]
    return vstack([log, rows], metadata_conflicts="silent")


def _changed_values(old: Table, new: Table, there: np.ndarray) -> list[Change]:
    rows = np.flatnonzero(there >= 0)
    if not len(rows):
        return []
    before, now = old[rows], new[there[rows]]
    changes = []
    for name in new.colnames:
        if name not in old.colnames or name in COMPUTED:
            continue
        ours, theirs = _texts(before, name), _texts(now, name)
        for k in np.flatnonzero(ours != theirs).tolist():
            changes.append(_change(CHANGED, now[k], name, ours[k], theirs[k]))
    return changes


def _change(change: str, row, column: str = "", old: str = "", new: str = "") -> Change:
    return Change(
        change, int(row["EXPNUM"]), int(row["night"]), str(row["obs_type"]), str(row["md5sum"]),
        str(row["archive_filename"]), column, str(old), str(new),
    )  # fmt: skip


def _texts(table: Table, name: str) -> np.ndarray:
    """Return a column as texts that are equal where the values are; empty where there is no value."""
    if name not in table.colnames:
        return np.full(len(table), "", "U1")
    column = table[name]
    if hasattr(column, "isot"):
        return np.asarray(column.isot, str).astype("U23")
    if column.dtype.kind == "f":
        values = np.ma.filled(np.ma.asarray(column), np.nan)
        return np.array(["" if v != v else repr(v) for v in values.tolist()], str)
    values = [None if v is np.ma.masked else v for v in (column if column.dtype.kind == "O" else column.tolist())]
    return np.array(["" if v is None or v in ("None", "nan") else str(v) for v in values], str)


def _file(row) -> str:
    return os.path.basename(str(row["archive_filename"]))


def _exposure(row) -> tuple:
    return int(row["EXPNUM"]), str(row["obs_type"]), str(row["proc_type"])


def _order(table: Table) -> list[np.ndarray]:
    start = "dateobs_min" if "dateobs_min" in table.colnames else "EXPNUM"
    return [_texts(table, "caldat"), _texts(table, start), _texts(table, "md5sum")]


def _filled(table: Table) -> Table:
    """Return a table whose columns are masked only where a value is missing."""
    for name in table.colnames:
        column = table[name]
        if isinstance(column, MaskedColumn) and not column.mask.any():
            table[name] = table.Column(column.data.data, name=name, unit=column.unit)
    return table
