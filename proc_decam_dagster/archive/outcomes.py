"""What may become of a file, by name, and the report of a whole download."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from proc_decam_dagster.errors import SurveyError


class Outcome(StrEnum):
    """What became of one file."""

    VERIFIED = "verified"
    MD5_MISMATCH = "md5 mismatch"
    """Other bytes than the archive lists, more than once, though it calls its file valid; kept as ``.bad``."""
    ARCHIVE_INVALID = "archive invalid"
    """The same, and the archive itself calls its file invalid."""
    PROPRIETARY = "proprietary"
    NOT_FOUND = "not found"
    DISK_FULL = "disk full"
    AUTH_FAILED = "auth failed"
    BROKE_OFF = "broke off"
    """Every attempt ended before the announced length: reset, truncated, stalled, or the length was a lie."""
    UNAVAILABLE = "archive unavailable"
    NOT_WRITTEN = "not written"
    SPOILT = "spoilt on disk"
    """A file that is on disk has another md5 than the table says; moved aside as ``.spoilt``."""
    ABSENT = "not on disk"
    """Asked for what is on disk, and this file is not."""
    NOT_TRIED = "not tried"


@dataclass
class FileResult:
    """One file: where it is or would be, what became of it and why.

    Attributes
    ----------
    fetched : `bool`
        Whether bytes came over the network in this run.
    size : `int` or `None`
        Content-Length, as far as the archive told it.
    bytes, mtime_ns : `int` or `None`
        Length and time of the file on disk.
    attempts : `int`
        Requests for it in this run.
    checked_disk, checked_archive : `bool`
        Whether the md5 of the bytes, and the archive's own opinion, is known.
    valid_in_archive : `bool`
        That opinion; `True` until the archive said otherwise.
    until : `str`
        The date from which a proprietary file is public.
    """

    path: Path
    md5sum: str
    outcome: Outcome = Outcome.NOT_TRIED
    detail: str = ""
    fetched: bool = False
    bytes: int = 0
    size: int | None = None
    mtime_ns: int | None = None
    attempts: int = 0
    checked_disk: bool = False
    checked_archive: bool = False
    valid_in_archive: bool = True
    until: str = ""


@dataclass(frozen=True)
class Duplicate:
    """Rows of a table that stand for the same thing: ``by`` is ``content`` (md5) or ``exposure number``."""

    by: str
    key: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"the same {self.by} {self.key}: {', '.join(self.names)}"


@dataclass
class DownloadReport:
    """What became of all files of a download."""

    results: list[FileResult]
    state_file: Path
    seconds: float = 0.0
    duplicates: list[Duplicate] = field(default_factory=list)
    ledger_file: Path | None = None
    strangers: list[str] = field(default_factory=list)
    """Files of an adopted folder that no row of the table names."""
    counts: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.counts = Counter(r.outcome for r in self.results)

    @property
    def ok(self) -> bool:
        """Whether every file is on disk and verified."""
        return self.counts[Outcome.VERIFIED] == len(self.results)

    @property
    def fetched(self) -> int:
        """Number of files that came over the network and verified."""
        return sum(r.fetched and r.outcome is Outcome.VERIFIED for r in self.results)

    @property
    def bytes(self) -> int:
        """Bytes of those."""
        return sum(r.bytes for r in self.results if r.fetched and r.outcome is Outcome.VERIFIED)

    @property
    def paths(self) -> list[Path]:
        """The files that are on disk and verified."""
        return [r.path for r in self.results if r.outcome is Outcome.VERIFIED]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Name of each file that is not on disk, and what became of it."""
        return [
            (r.path.name, f"{r.outcome}: {r.detail}" if r.detail else str(r.outcome))
            for r in self.results
            if r.outcome is not Outcome.VERIFIED
        ]

    def _causes(self) -> list[tuple[str, str]]:
        """Return the failures, those of files that were not even tried last."""
        return sorted(self.failures, key=lambda failure: failure[1].startswith(Outcome.NOT_TRIED))

    def raise_on_failure(self) -> None:
        """Raise one `SurveyError` that counts what is missing by outcome; does nothing if nothing is."""
        if not self.ok:
            counts = ", ".join(f"{n} {o}" for o, n in self.counts.items() if o is not Outcome.VERIFIED)
            first = "; ".join(": ".join(f) for f in self._causes()[:1])
            raise SurveyError(
                f"{len(self.failures)} of {len(self.results)} files are not on disk ({counts}; the first: {first})",
                "every file verified",
                "run the download again: what is verified is not fetched again",
            )
