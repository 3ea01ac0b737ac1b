"""Nights: the archive's calendar date (local noon to noon) written YYYYMMDD."""

import re
from collections.abc import Iterable

from proc_decam_dagster.errors import SurveyError

NIGHT = re.compile(r"\d{8}")


def night_of(caldat: str) -> str:
    """Return the night of an archive `caldat` such as ``2019-04-01``."""
    night = str(caldat).replace("-", "")
    if not NIGHT.fullmatch(night):
        raise SurveyError(f"caldat {caldat!r} is no date", "YYYY-MM-DD")
    return night


def is_night(text: str) -> bool:
    """Whether ``text`` has the form of a night."""
    return NIGHT.fullmatch(str(text)) is not None


def matching_nights(pattern: str, nights: Iterable[str | int]) -> list[str]:
    """Return, sorted, the nights that a regular expression matches from start to end.

    A shell-like ``*`` after a digit (``2019*``) is accepted as "whatever follows".

    Raises
    ------
    SurveyError
        If the expression is no regular expression, or if no night matches it.
    """
    known = sorted({str(n) for n in nights})
    expression = re.sub(r"(?<=[\d\]])\*", ".*", pattern)
    try:
        matched = [n for n in known if re.fullmatch(expression, n)]
    except re.error as error:
        raise SurveyError(f"night pattern {pattern!r} is no regular expression ({error})") from None
    if not matched:
        shown = ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
        raise SurveyError(
            f"no night matches {pattern!r}",
            f"one of: {shown or 'none known'}",
            "list them with `proc-decam nights`, or fetch their exposures with `proc-decam exposures`",
        )
    return matched
