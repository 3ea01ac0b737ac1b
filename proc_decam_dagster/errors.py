"""The one exception type for mistakes that a user can mend: shown as one line, never as a traceback."""

import errno
import os
import shutil


class SurveyError(Exception):
    """What was found, what was expected, and how to fix it.

    Parameters
    ----------
    found : `str`
        What is wrong, with the name of the file, night or column.
    expected : `str`, optional
        What should have been there.
    fix : `str`, optional
        What the user can do about it: a command to type wherever there is one.
    """

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        super().__init__("; ".join(p for p in (found, expected and f"expected {expected}", fix) if p))


def require_room(folder: str | os.PathLike[str], megabytes: float = 32.0) -> None:
    """Raise a `SurveyError` if a disk is nearly full.

    What stops on a full disk can be gone on with, but not a repository whose tables were being made just then.
    """
    free = shutil.disk_usage(folder).free / 1e6
    if free < megabytes:
        raise SurveyError(
            f"no space left on the disk of {folder}: {free:.1f} MB are free", f"{megabytes:.0f} MB at least",
            "free some, and run the command again",
        )  # fmt: skip


def disk_full(error: BaseException) -> SurveyError | None:
    """Return the error to tell where a full disk is the cause of another, at whatever depth; `None` if it is not."""
    cause: BaseException | None = error
    while cause is not None:
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "database or disk is full" in str(cause):
            where = getattr(cause, "filename", None)
            return SurveyError(
                f"no disk space for {where}" if where else "no space left on the disk",
                "room for what the command writes",
                "free some, and run the command again",
            )
        cause = cause.__cause__ or cause.__context__
    return None
