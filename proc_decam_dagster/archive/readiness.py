"""Whether a night's files are all there: each verified, or known for good that it cannot be had."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proc_decam_dagster.archive.outcomes import Outcome
from proc_decam_dagster.survey.exposures import file_name

if TYPE_CHECKING:
    from astropy.table import Table

    from proc_decam_dagster.archive.ledger import Entry

FINAL = frozenset({Outcome.NOT_FOUND, Outcome.ARCHIVE_INVALID, Outcome.PROPRIETARY})
"""Outcomes that no repetition changes, a proprietary file's until it is public. All others may be gone tomorrow."""


@dataclass
class NightFiles:
    """How the files of one night's rows of the exposure table stand.

    Attributes
    ----------
    wanted : `int`
        Rows.
    verified : `set` [`str`]
        md5sums of those on disk.
    final : `dict` [`str`, `str`]
        Name → outcome of those that cannot be had.
    final_exposures : `set` [`int`]
        Exposure numbers of these.
    """

    wanted: int = 0
    verified: set[str] = field(default_factory=set)
    final: dict[str, str] = field(default_factory=dict)
    final_exposures: set[int] = field(default_factory=set)

    @property
    def ready(self) -> bool:
        """Whether nothing is left to wait for, and something is there."""
        return bool(self.verified) and len(self.verified) + len(self.final) >= self.wanted


def final_outcome(outcome: str, until: str = "", today: str = "") -> bool:
    """Return whether an outcome is for good.

    Parameters
    ----------
    outcome : `str`
        An `Outcome`.
    until, today : `str`
        Date (ISO 8601) from which a proprietary file is public; the present one.
    """
    if outcome == Outcome.PROPRIETARY and until:
        return (today or datetime.now(UTC).date().isoformat()) < until[:10]
    return outcome in FINAL


def night_files(
    table: "Table", known: "Mapping[str, Entry]", today: str = "", *, look: bool = True
) -> dict[str, NightFiles]:
    """Return how each night of an exposure table stands.

    Parameters
    ----------
    table : `astropy.table.Table`
        Rows of any nights.
    known : `~collections.abc.Mapping`
        What the ledgers know of files, by md5sum; see `known_files`.
    today : `str`, optional
        The date, ISO 8601.
    look : `bool`
        Look for each file on the disk; else the ledgers are believed.
    """
    nights: dict[str, NightFiles] = {}
    columns = (table[name].tolist() for name in ("night", "md5sum", "EXPNUM"))
    for index, (night, md5, exposure) in enumerate(zip(*columns)):
        files = nights.setdefault(str(night), NightFiles())
        files.wanted += 1
        entry = known.get(str(md5))
        if entry is None:
            continue
        if entry.on_disk() if look else entry.verified:
            files.verified.add(str(md5))
        elif final_outcome(entry.outcome, entry.until, today):
            files.final[file_name(table[index])] = entry.outcome
            files.final_exposures.add(int(exposure))
    return nights
