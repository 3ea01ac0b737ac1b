"""Waiting for a database that is away for a moment: a server that restarts, a file that another writer has locked."""

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from proc_decam_dagster.errors import disk_full

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0
"""How long a database may be away before a step gives up: a restart of the server, with recovery, takes seconds."""
IMPATIENT_SECONDS = 5.0
"""How long it may be away where the user has asked to stop."""
_LASTING = ("readonly", "read-only", "unable to open", "no such table", "password authentication", "does not exist")


def is_away(error: BaseException) -> bool:
    """Whether an error says that a database does not answer now, and may do so later."""
    cause: BaseException | None = error
    while cause is not None:
        gone = isinstance(cause, OperationalError | InterfaceError)
        gone = gone or isinstance(cause, DBAPIError) and cause.connection_invalidated
        if gone:
            return disk_full(error) is None and not any(text in str(cause) for text in _LASTING)
        cause = cause.__cause__ or cause.__context__
    return False


def patiently[T](
    work: Callable[[], T], *, seconds: float = PATIENCE_SECONDS, before_repeat: Callable = lambda: None
) -> T:
    """Do something with a database, and again while the database is away.

    Parameters
    ----------
    work : `~collections.abc.Callable`
        All or nothing, or harmless when repeated.
    seconds : `float`, optional
        How long to go on.
    before_repeat : `~collections.abc.Callable`, optional
        Called before each repeat, for work whose commit may have gone through although its answer was lost.

    Raises
    ------
    Exception
        What ``work`` raised last, once patience is at its end, or at once if waiting does not help.
    """
    until, pause, repeat = time.monotonic() + seconds, 0.2, False
    while True:
        try:
            if repeat:
                before_repeat()
            return work()
        except Exception as error:
            if not is_away(error) or time.monotonic() + pause > until:
                raise
            if not repeat:
                log.warning("the database does not answer (%s); waiting for it", str(error).splitlines()[0])
            repeat = True
        time.sleep(pause)
        pause = min(2 * pause, 5.0)
