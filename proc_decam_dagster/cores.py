"""How many cores one pipeline execution may take: ``J`` of the environment, or all there are."""

import os

from proc_decam_dagster.errors import SurveyError


def asked_cores() -> int | None:
    """Return the number of cores that ``J`` of the environment says; `None` if it is not set.

    Raises
    ------
    SurveyError
        If it is no number of cores.
    """
    text = os.environ.get("J", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise SurveyError(f"J={text} in the environment is no number of cores", "1 or more", "export J=4, or unset J")
    return int(text)


def default_cores() -> int:
    """Return `asked_cores`, or the number of cores of this machine."""
    return asked_cores() or os.cpu_count() or 1
