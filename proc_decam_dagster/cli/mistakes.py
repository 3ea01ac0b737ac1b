"""How a command that cannot go on ends: one line that begins with `error:`, and an exit code."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

from proc_decam_dagster.errors import SurveyError, disk_full
from proc_decam_dagster.interrupts import terminate_as_interrupt

FAILED = 1
_FILE_SYSTEM = (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
_DATABASE = ("OperationalError", "DatabaseError", "InterfaceError")


def tell(text: str) -> None:
    """Write an error's one line on stderr."""
    click.echo(f"error: {' '.join(text.split())}", err=True)


def told(error: Exception) -> str | None:
    """Return what to tell a user of an error that is theirs to mend; `None` for a mistake of ours."""
    if isinstance(error, SurveyError):
        return str(error)
    if (full := disk_full(error)) is not None:
        return str(full)
    if isinstance(error, _FILE_SYSTEM) or _is_read_only(error):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; expected a path that can be read and written; give another"
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ButlerUserError" in names:
        return str(error)
    if names & set(_DATABASE):
        first = str(getattr(error, "orig", None) or error).splitlines()[0]
        return f"the registry's database: {first}; expected one that answers; run the command again when it does"
    return None


def _is_read_only(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EROFS


def wrong_use(error: click.UsageError) -> str:
    """Return what to tell of a command line that is not understood."""
    command = error.ctx.command_path if error.ctx else "proc-decam"
    return f"{error.format_message().rstrip('.')}; `{command} --help` shows how it is used"


@contextmanager
def one_line(ctx: click.Context) -> Iterator[None]:
    """End the program with one line and an exit code when what is within is wrongly used, or interrupted."""
    try:
        with terminate_as_interrupt():
            yield
    except click.UsageError as error:
        tell(wrong_use(error))
        ctx.exit(error.exit_code)
    except BaseException as error:
        number = _signal_of(error)
        if number is None:
            raise
        tell("interrupted; what had finished is kept; run the same command again to go on")
        ctx.exit(128 + number)


def _signal_of(error: BaseException) -> int | None:
    """Return the signal that an exception stands for; `None` for every other exception."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGTERM if error.args == ("SIGTERM",) else signal.SIGINT
    return None
