"""Which failures may pass by themselves, and what to do about each."""

from collections.abc import Iterable

LOST = "Lost"
TIME_LIMIT = "TimeLimit"
MISSING_INPUT = "MissingInput"
DISK_FULL = "DiskFull"
"""Added to an exception's types where a full disk is its cause."""

TRANSIENT = frozenset({"MemoryError", "OSError", "EOFError", LOST})
"""Names of exception types that are transient, they and what derives from them."""

LASTING = frozenset({"FileNotFoundError", "IsADirectoryError", "NotADirectoryError", "FileExistsError"})
"""Kinds of `OSError` that do not pass by waiting."""

_TRANSIENT_TEXT = ("bad_alloc", "Unable to allocate", "Cannot allocate memory", "Failed to serialize")
_MEMORY_TEXT = ("bad_alloc", "Unable to allocate", "Cannot allocate memory")


def is_transient(exception_types: Iterable[str], message: str = "") -> bool:
    """Whether a failure may pass by itself.

    Parameters
    ----------
    exception_types : `~collections.abc.Iterable` [`str`]
        Bare names of the exception's type and its bases.
    message : `str`, optional
        Its text: libraries wrap a failed allocation in exceptions of their own.
    """
    names = set(exception_types)
    if names & LASTING:
        return False
    return bool(names & TRANSIENT) or any(text in message for text in _TRANSIENT_TEXT)


def wants_memory(exception_types: Iterable[str], message: str = "") -> bool:
    """Whether a failed quantum should be repeated with more memory.

    A killed worker counts: the kernel kills with SIGKILL the process that has taken too much memory.
    """
    names = set(exception_types)
    return bool(names & {"MemoryError", LOST}) or any(text in message for text in _MEMORY_TEXT)


def action(
    exception: str, transient: bool, *, root: str = "REPO", chain: str = "CHAIN", step: str = "", pipeline: str = "",
    data_id: dict | None = None, tries_left: bool = False, redone: bool = False,
) -> str:  # fmt: skip
    """Return the next command to type, and what to change before it.

    Parameters
    ----------
    exception, transient
        What failed.
    root, chain, step, pipeline, data_id
        For the command.
    tries_left : `bool`, optional
        Whether the step tries it again without being asked for.
    redone : `bool`, optional
        Whether the chain holds what it made before: the step would skip it.
    """
    where = " and ".join(f"{k}={v!r}" for k, v in (data_id or {}).items())
    again = f"proc-decam execute {root} {chain} --pipeline {pipeline}" + (f"#{step}" if step else "")
    again += f' --where "{where}"' if where else ""
    again += " --no-skip-existing" if redone else ""
    if tries_left:
        return again
    again += " --retry-failed"
    if exception == TIME_LIMIT:
        return f"with more time: {again} --time-limit SECONDS"
    if exception in ("MemoryError", LOST):
        return f"with fewer workers or more memory: J=1 {again}"
    if exception == MISSING_INPUT:
        return "make the missing dataset (see the message), then run the step again"
    return f"{'free the resource' if transient else 'mend the cause'}, then: {again}"
