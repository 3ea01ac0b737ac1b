"""The list of what is left out, as a repository has it: read, added to, taken back; amplifiers become defects."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.locks import user_name
from proc_decam_dagster.repository.settings import write_whole
from proc_decam_dagster.survey.exclusions import (
    FILE_NAME,
    Exclusion,
    Exclusions,
    as_yaml,
    new_entry,
    read_exclusions,
)  # fmt: skip
from proc_decam_dagster.survey.nights import is_night

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository

HEAD = "# What this survey leaves out. Entries are appended by `proc-decam exclude` and `include`, never removed.\n"


def exclusions(repo: "Repository") -> Exclusions:
    """Return the repository's list."""
    return read_exclusions(_path(repo))


def exclude(
    repo: "Repository", reason: str, *, exposures: Sequence[int] = (), detectors: Sequence[int] = (),
    nights: str = "", amplifier: str = "",
) -> Exclusion:  # fmt: skip
    """Leave something out from now on, and return the entry.

    Raises
    ------
    SurveyError
        See `~proc_decam_dagster.survey.exclusions.new_entry`; also if an exposure is not in the exposure table.
    """
    with repo.lock("exclusions", wait_seconds=60):
        have = exclusions(repo)
        entry = new_entry(
            have.version + 1, reason=reason, exposures=exposures, detectors=detectors, nights=nights,
            amplifier=amplifier, who=user_name(), when=_now(),
        )  # fmt: skip
        known = {int(n) for n in repo.known_exposures()["EXPNUM"]} if entry.exposures else set()
        if unknown := sorted(set(entry.exposures) - known):
            raise SurveyError(f"exposures {unknown} are not in the exposure table of {repo.root}", "EXPNUMs of it")
        for same in have.current:
            if (same.what, same.amplifier) == (entry.what, entry.amplifier):
                raise SurveyError(f"{entry.what} is left out already, by entry {same}")
        _append(repo, entry)
    return entry


def include(repo: "Repository", number: int, reason: str) -> Exclusion:
    """Take an entry back, and return the entry that does.

    Raises
    ------
    SurveyError
        If no entry of that number holds.
    """
    with repo.lock("exclusions", wait_seconds=60):
        have = exclusions(repo)
        if number not in {e.number for e in have.current}:
            numbers = ", ".join(str(e.number) for e in have.current) or "none holds"
            raise SurveyError(f"entry {number} of the list does not hold", f"one of: {numbers}")
        if not reason.strip():
            raise SurveyError("there is no reason", "why it counts again", "add --reason TEXT")
        entry = Exclusion(have.version + 1, reason.strip(), who=user_name(), when=_now(), takes_back=number)
        _append(repo, entry)
    return entry


def exposure_nights(repo: "Repository") -> dict[int, str]:
    """Return exposure → night of all that the repository's exposure table lists."""
    table = repo.exposures()
    if table is None:
        return {}
    return {int(n): str(night) for n, night in zip(table["EXPNUM"], table["night"])}


def exclusions_of(repo: "Repository", night: str) -> list[Exclusion]:
    """Return the entries that hold for a night; all that hold where it is none (a coadd)."""
    have = exclusions(repo)
    if not have.current or not is_night(night):
        return have.current
    return have.of_night(night, (n for n, of in exposure_nights(repo).items() if of == night))


def exclusion_terms(repo: "Repository", dimensions: Any, night: str = "") -> list[str]:
    """Return the terms of a Butler query that leave out what the list names; none for an empty list.

    ``night`` is that of all that the query finds; without it, or if it is none, the exposure table tells it.
    """
    have = exclusions(repo)
    if is_night(night):
        return have.terms(dimensions, {}, night)
    by_night = any(e.nights and not e.amplifier for e in have.current)
    return have.terms(dimensions, exposure_nights(repo) if by_night else {})


def _path(repo: "Repository") -> Path:
    return Path(repo.state_dir) / FILE_NAME


def _append(repo: "Repository", entry: Exclusion) -> None:
    path = _path(repo)
    before = path.read_text() if path.is_file() else HEAD
    write_whole(path, before + ("" if before.endswith("\n") else "\n") + as_yaml(entry))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
