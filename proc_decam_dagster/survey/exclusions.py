"""The list of what a survey leaves out: exposures, CCDs and amplifiers, each with a reason, and its whole history.

A YAML file to which entries are only ever appended: an entry is taken back by another one. Its version is the number
of its entries, so that what a product was made with can be told, and looked up, ever after.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.nights import matching_nights

FILE_NAME = "exclusions.yaml"
AMPLIFIERS = ("A", "B")


@dataclass(frozen=True)
class Exclusion:
    """One entry.

    Attributes
    ----------
    number : `int`
        Its place in the file, from 1.
    reason : `str`
        Why; never empty.
    exposures, detectors : `tuple` [`int`]
        What is left out; every one where empty.
    nights : `str`
        Regular expression of the nights it holds for; every night where empty.
    amplifier : `str`
        ``A`` or ``B``: of the detectors, this amplifier alone. It is masked, not left out.
    who, when : `str`
        Who wrote it, and when (ISO 8601, UTC).
    takes_back : `int`
        Number of an earlier entry that holds no more; 0 where this entry leaves something out.
    """

    number: int
    reason: str
    exposures: tuple[int, ...] = ()
    detectors: tuple[int, ...] = ()
    nights: str = ""
    amplifier: str = ""
    who: str = ""
    when: str = ""
    takes_back: int = 0

    def __str__(self) -> str:
        return f"{self.number}: {self.what} ({self.reason})"

    @property
    def what(self) -> str:
        """What it does, in words."""
        if self.takes_back:
            return f"takes back {self.takes_back}"
        parts = []
        if self.exposures:
            parts.append(f"exposure{'s' * (len(self.exposures) > 1)} {', '.join(map(str, self.exposures))}")
        if self.detectors:
            noun = f"amplifier {self.amplifier} of CCD" if self.amplifier else "CCD"
            parts.append(f"{noun} {', '.join(map(str, self.detectors))}")
        if self.nights:
            parts.append(f"nights {self.nights}")
        return ", ".join(parts)

    @property
    def stamp(self) -> str:
        """When it was made, as names of RUNs tell it."""
        return self.when.replace("-", "").replace(":", "")

    def of_night(self, night: str) -> bool:
        """Whether it holds for a night."""
        return not self.nights or bool(matching_nights_or_none(self.nights, [night]))


class Exclusions:
    """The entries of a file that hold, and its history.

    Parameters
    ----------
    history : iterable of `Exclusion`
        All entries, in order.
    """

    def __init__(self, history: Iterable[Exclusion] = ()) -> None:
        self.history = list(history)
        gone = {e.takes_back for e in self.history}
        self.current = [e for e in self.history if not e.takes_back and e.number not in gone]

    @property
    def version(self) -> int:
        """Number of entries, 0 for a survey that leaves nothing out."""
        return len(self.history)

    def at(self, version: int) -> "Exclusions":
        """Return the list as it was at an earlier version."""
        return Exclusions(self.history[:version])

    def entry(self, exposure: int, detector: int | None, night: str) -> Exclusion | None:
        """Return the entry that leaves out an exposure, or a detector of it; `None` if none does."""
        for e in self.current:
            if e.amplifier or (e.exposures and exposure not in e.exposures) or not e.of_night(night):
                continue
            if not e.detectors or (detector is not None and detector in e.detectors):
                return e
        return None

    def reason(self, exposure: int, detector: int | None, night: str) -> str:
        """Return why an exposure, or a detector of it, is left out; an empty string if it is not."""
        e = self.entry(exposure, detector, night)
        return f"{e.reason} (entry {e.number})" if e else ""

    def terms(self, dimensions: Iterable[str], nights: Mapping[int, str], night: str = "") -> list[str]:
        """Return the terms of a Butler query that leave out what the list names.

        Parameters
        ----------
        dimensions : iterable of `str`
            Dimensions that the query has.
        nights : mapping
            Exposure → night, of every exposure the query may find; not looked at where ``night`` is given.
        night : `str`, optional
            The night of all that the query finds. A pattern of nights is then no list of thousands of exposures.
        """
        dimensions = set(dimensions)
        frames = [d for d in ("exposure", "visit") if d in dimensions]
        terms = []
        for e in self.current:
            if e.amplifier:
                continue
            if night:
                if not e.of_night(night):
                    continue
                numbers, everywhere = list(e.exposures), not e.exposures
            else:
                numbers = [n for n in e.exposures or nights if not e.nights or (n in nights and e.of_night(nights[n]))]
                everywhere = not e.exposures and not e.nights
            by_detector = f"detector IN ({_join(e.detectors)})" if e.detectors else ""
            if by_detector and "detector" not in dimensions:
                continue
            if everywhere:
                terms += [f"NOT ({by_detector})"] if by_detector else [f"{frame} < 0" for frame in frames]
                continue
            for frame in frames if numbers else ():
                listed = f"{frame} IN ({_join(numbers)})"
                terms.append(f"NOT ({listed}{' AND ' + by_detector if by_detector else ''})")
        return terms

    def amplifiers(self) -> list[Exclusion]:
        """Return the entries that mask an amplifier."""
        return [e for e in self.current if e.amplifier]

    def of_night(self, night: str, exposures: Iterable[int] = ()) -> list[Exclusion]:
        """Return the entries that touch a night (and any of its exposures)."""
        numbers = set(exposures)
        return [e for e in self.current if e.of_night(night) and (not e.exposures or numbers & set(e.exposures))]


def _join(values: Iterable[int]) -> str:
    return ", ".join(str(int(v)) for v in sorted(set(values)))


def matching_nights_or_none(pattern: str, nights: Iterable[str]) -> list[str]:
    """Return the nights that a pattern matches; none is no error."""
    try:
        return matching_nights(pattern, nights)
    except SurveyError:
        return []


def new_entry(
    number: int, *, reason: str, exposures: Sequence[int] = (), detectors: Sequence[int] = (), nights: str = "",
    amplifier: str = "", who: str = "", when: str = "",
) -> Exclusion:  # fmt: skip
    """Return an entry that leaves something out.

    Raises
    ------
    SurveyError
        If nothing is named or no reason is given, or a detector, amplifier or pattern of nights does not exist.
    """
    if not reason.strip():
        raise SurveyError("there is no reason", "why it is left out: others will want to know", "add --reason TEXT")
    if not (exposures or detectors or nights):
        raise SurveyError("nothing is named", "exposures, detectors or nights")
    if unknown := sorted(set(detectors) - set(DETECTORS)):
        raise SurveyError(f"detectors {unknown} do not exist", "1 to 62")
    if amplifier and amplifier not in AMPLIFIERS:
        raise SurveyError(f"amplifier {amplifier!r} does not exist", "A or B")
    if amplifier and (not detectors or exposures):
        raise SurveyError("an amplifier is masked in all exposures of some nights", "--detectors, and no --exposures")
    try:
        re.compile(nights)
    except re.error as error:
        raise SurveyError(f"night pattern {nights!r} is no regular expression ({error})") from None
    return Exclusion(
        number, reason.strip(), tuple(sorted({*map(int, exposures)})), tuple(sorted({*map(int, detectors)})), nights,
        amplifier, who, when,
    )  # fmt: skip


def read_exclusions(path: Path) -> Exclusions:
    """Read the list; empty where there is no file.

    Raises
    ------
    SurveyError
        If the file holds anything but entries, numbered from 1.
    """
    if not path.is_file():
        return Exclusions()
    known = {f.name for f in fields(Exclusion)}
    try:
        rows = yaml.safe_load(path.read_text()) or []
        entries = [_entry(row) for row in rows]
    except (yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SurveyError(
            f"{path} cannot be read ({reason})", f"a YAML list of entries with {', '.join(sorted(known))}"
        ) from None
    if [e.number for e in entries] != list(range(1, len(entries) + 1)):
        raise SurveyError(
            f"the entries of {path} are not numbered 1, 2, 3 …", fix="entries are appended, never removed"
        )
    return Exclusions(entries)


def _entry(row: dict[str, Any]) -> Exclusion:
    """Return an entry of the file; a night or a name without quotes is a number to YAML."""
    numbers = {k: tuple(map(int, row[k])) for k in ("exposures", "detectors") if k in row}
    numbers |= {k: int(row[k]) for k in ("number", "takes_back") if k in row}
    return Exclusion(**{k: "" if v is None else str(v) for k, v in row.items() if k not in numbers}, **numbers)


def as_yaml(entry: Exclusion) -> str:
    """Return an entry as it stands in the file."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(entry).items() if v}
    return yaml.safe_dump([values], sort_keys=False, allow_unicode=True)
