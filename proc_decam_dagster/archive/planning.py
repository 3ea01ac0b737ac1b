"""What a download would do, and what of it is still to come: files, bytes, seconds."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from astropy.table import Table

from proc_decam_dagster.archive.ledger import Entry
from proc_decam_dagster.archive.outcomes import Duplicate
from proc_decam_dagster.archive.wanted import Wanted, duplicates_in, open_ledger, wanted_files


@dataclass(frozen=True)
class Plan:
    """What a download would do.

    Attributes
    ----------
    there, missing : `list` [`Wanted`]
        Files that are on disk and verified, and the others.
    bytes : `float`
        Bytes to fetch; of ``guessed`` files the size is not known and that of the others is taken.
    seconds : `float` or `None`
        From the rate of past downloads; `None` if there was none.
    free : `int`
        Bytes free on the disk.
    """

    there: list[Wanted]
    missing: list[Wanted]
    bytes: float
    guessed: int
    seconds: float | None
    rate: float | None
    free: int
    duplicates: list[Duplicate]


def plan(exposures: Table, directory: str | os.PathLike, *, state_file: str | os.PathLike | None = None) -> Plan:
    """Return what a download would do, without asking the archive; takes what `download` takes."""
    directory = Path(directory).absolute()
    files = wanted_files(exposures, directory)
    with open_ledger(directory, state_file, read_only=True) as ledger:
        known, means, rate = ledger.entries(), ledger.mean_sizes(), ledger.past_rate()
    there = [f for f in files.values() if f.md5 in known and known[f.md5].unchanged()]
    missing = [f for f in files.values() if not (f.md5 in known and known[f.md5].unchanged())]
    expected, guessed = _expected_bytes(missing, known, means)
    existing = next(p for p in (directory, *directory.parents) if p.exists())
    return Plan(
        there, missing, expected, guessed, expected / rate if rate else None, rate, shutil.disk_usage(existing).free,
        duplicates_in(exposures),
    )  # fmt: skip


def _expected_bytes(files: Iterable[Wanted], known: dict[str, Entry], means: dict[str, float]) -> tuple[float, int]:
    """Return the bytes of files, and of how many of them the size is guessed."""
    expected, guessed = 0.0, 0
    for file in files:
        entry = known.get(file.md5)
        size = file.size or (entry.size if entry else None)
        guessed += size is None
        expected += size or means.get(file.obs_type) or means.get("") or 0.0
    return expected, guessed


class Left:
    """The bytes that are still to come: known sizes, and the mean of its kind for each file of unknown size."""

    def __init__(self, files: list[Wanted], known: dict[str, Entry], means: dict[str, float]) -> None:
        self.means = means
        self.sizes = {f.md5: f.size or (known[f.md5].size if f.md5 in known else None) for f in files}
        self.kinds = {f.md5: f.obs_type for f in files if self.sizes[f.md5] is None}
        self.known, self.unknown = sum(s for s in self.sizes.values() if s), Counter(self.kinds.values())

    def take(self, md5: str) -> None:
        """A file is dealt with."""
        size = self.sizes.pop(md5, 0)
        if size is None:
            self.unknown[self.kinds[md5]] -= 1
        self.known -= size or 0

    def bytes(self, mean: float) -> float:
        """Return them; ``mean`` is that of the files that came so far."""
        means = self.means | ({"": mean} if mean else {})
        return self.known + sum(n * (means.get(kind) or means.get("") or 0.0) for kind, n in self.unknown.items())
