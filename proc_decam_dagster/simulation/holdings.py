"""What the simulated archive has and shows, and what is made to go wrong with it."""

import os
import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from proc_decam_dagster.errors import SurveyError

FAULTS = (
    "reset", "truncate", "corrupt", "stall", "longer", "shorter", "500", "503", "403", "404", "proprietary",
)  # fmt: skip
"""What may befall a request for a file: the connection is reset; the body ends half-way, has a wrong byte, stops
coming, or is shorter or longer than its Content-Length (which is then ``longer`` or ``shorter`` than the truth); or
another answer than the file."""


class SeededFaults:
    """Faults of a seeded share of the requests for files, and of all requests for some.

    Whether the n-th request for a file goes wrong, and how, depends on the seed, the file and n alone, not on the
    order in which files are asked for.

    Parameters
    ----------
    seed : `int`
    share : `float`
        Part of the requests that go wrong.
    kinds : iterable of `str`, optional
        Some of `FAULTS`.
    always : `dict` [`str`, `str`], optional
        md5 and the fault of every request for it.
    stall_seconds : `float`
        How long a stalled transfer is held.

    Attributes
    ----------
    given : `dict` [`str`, `list` [`str`]]
        md5 → what its requests met so far; ``ok`` for the file.
    """

    def __init__(
        self, seed: int, share: float = 1 / 3, kinds: Iterable[str] = FAULTS, always: dict[str, str] | None = None,
        stall_seconds: float = 30.0,
    ) -> None:  # fmt: skip
        self.seed, self.share, self.kinds, self.always = seed, share, tuple(kinds), dict(always or {})
        self.stall_seconds = stall_seconds
        self.given: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def next(self, md5: str) -> str:
        """Return what befalls the next request for a file; ``ok`` if nothing does."""
        with self._lock:
            before = self.given.setdefault(md5, [])
            chance = random.Random(f"{self.seed}:{md5}:{len(before)}")
            kind = self.always.get(md5) or (chance.choice(self.kinds) if chance.random() < self.share else "ok")
            before.append(kind)
            return kind


@dataclass
class Faults:
    """What goes wrong on purpose, each as often as it says; for tests.

    Attributes
    ----------
    errors : `dict` [`str`, `int`]
        Path prefix (such as ``/api/retrieve``) and how many more requests for it are answered with status 500.
    truncated, corrupted : `dict` [`str`, `int`]
        md5 and how many more times its file is cut off half-way, or served with a byte changed.
    seeded : `SeededFaults`, optional
        What happens to requests for files besides.
    """

    errors: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    corrupted: dict[str, int] = field(default_factory=dict)
    seeded: SeededFaults | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def error(self, path: str) -> bool:
        """Whether this request is to fail."""
        return any(path.startswith(prefix) and self._use(self.errors, prefix) for prefix in list(self.errors))

    def truncate(self, md5: str) -> bool:
        """Whether this download is to be cut off."""
        return self._use(self.truncated, md5)

    def corrupt(self, md5: str) -> bool:
        """Whether this download is to be spoilt."""
        return self._use(self.corrupted, md5)

    def _use(self, counts: dict[str, int], key: str) -> bool:
        with self._lock:
            left = counts.get(key, 0)
            counts[key] = left - 1
            return left > 0


class Holdings:
    """The files that an archive has: read anew whenever the table on disk changes.

    Parameters
    ----------
    table : `pathlib.Path`
        ECSV with one row a file.
    held_back : `pathlib.Path`, optional
        Text file with the nights that are not shown, one a line.
    """

    def __init__(self, table: Path, held_back: Path | None = None) -> None:
        self._table, self._held_back = table, held_back
        self._lock, self._stamp, self._rows = threading.Lock(), None, []

    def rows(self) -> list[dict]:
        """Return the rows that are shown now."""
        with self._lock:
            stamp = tuple(p.stat().st_mtime_ns if p and p.exists() else 0 for p in (self._table, self._held_back))
            if stamp != self._stamp:
                held = self.held_back()
                self._rows = [r for r in _read_rows(self._table) if str(r["caldat"]).replace("-", "") not in held]
                self._stamp = stamp
            return self._rows

    def held_back(self) -> set[str]:
        """Return the nights that are not shown."""
        if self._held_back is None or not self._held_back.exists():
            return set()
        return set(self._held_back.read_text().split())

    def hold_back(self, nights: Iterable[str]) -> None:
        """Set the nights that are not shown."""
        if self._held_back is None:
            raise SurveyError("these holdings are a bare table", "a simulated survey's folder to hold nights back in")
        partial = self._held_back.with_name(self._held_back.name + ".part")
        partial.write_text("".join(f"{night}\n" for night in sorted(set(nights))))
        os.replace(partial, self._held_back)


def _read_rows(path: Path) -> list[dict]:
    """Return a table's rows as JSON takes them, with the fields that every archive row has."""
    from astropy.table import Table
    from astropy.time import Time

    table = Table.read(path, format="ascii.ecsv")
    constants = {"instrument": "decam", "telescope": "ct4m", "prod_type": "image", "depth": None, "seeing": None}
    columns = {}
    for name in table.colnames:
        column = table[name]
        if name == "dateobs_min" and "mjd" in table.colnames:  # an exposure table's text has milliseconds only
            column = Time(table["mjd"], format="mjd", precision=6)
        columns[name] = [_plain(v, name) for v in (column.isot if hasattr(column, "isot") else column)]
    rows = [{**constants, **dict(zip(columns, values))} for values in zip(*columns.values())]
    for row in rows:
        row.setdefault("ifilter", row.get("FILTER"))
        row.setdefault("proposal", row.get("PROPID"))
    return rows


def _plain(value, name: str):
    import numpy as np

    if value is None or value is np.ma.masked:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value != value:
        return None
    # The archive gives no OBJECT where the header had none.
    return None if name == "OBJECT" and value == "" else value
