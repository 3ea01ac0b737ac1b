"""File locks: one writer a chain, whether it was started from a terminal or by Dagster."""

import fcntl
import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from proc_decam_dagster.errors import SurveyError

POLL_SECONDS = 0.2

_held: dict[tuple[str, int], int] = {}
"""How often each thread of this process holds each lock file."""


@contextmanager
def file_lock(
    path: Path, name: str, *, wait_seconds: float = 0.0, on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold an exclusive lock on a file.

    The kernel frees it when the process ends, however it ends, so that no stale lock is ever left. A thread that
    holds the lock may take it again.

    Parameters
    ----------
    path : `pathlib.Path`
        The lock file; it stays afterwards, and says who held it last.
    name : `str`
        What is locked, for messages.
    wait_seconds : `float`
        How long to wait for another holder.
    on_wait : callable, optional
        Told once who holds the lock, if it has to be waited for.

    Raises
    ------
    SurveyError
        If another process or thread still holds the lock after the wait; the message says who.
    """
    key = (str(path), threading.get_ident())
    if _held.get(key):
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
        return
    descriptor = _acquire(path, name, wait_seconds, on_wait)
    try:
        _write_holder(descriptor)
        _held[key] = 1
        try:
            yield
        finally:
            del _held[key]
    finally:
        os.close(descriptor)  # closing frees the lock


def is_locked(path: Path) -> bool:
    """Whether a process, or another thread, holds a lock file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquire(path: Path, name: str, wait_seconds: float, on_wait: Callable[[str], None] | None) -> int:
    """Return the descriptor of the locked file; of a new file if the one waited for has been removed meanwhile."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
        try:
            _wait(descriptor, path, name, wait_seconds, on_wait)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait(descriptor: int, path: Path, name: str, wait_seconds: float, on_wait: Callable[[str], None] | None) -> None:
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            who = holder(path)
        if time.monotonic() >= deadline:
            raise SurveyError(
                f"{name} is being worked on by {who}", "one writer at a time", "wait until it has finished, or stop it"
            )
        if on_wait and not told:
            on_wait(f"waiting for {name}, held by {who}")
            told = True
        time.sleep(POLL_SECONDS)


def _write_holder(descriptor: int) -> None:
    text = json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "user": user_name(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def user_name() -> str:
    """Return who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())


def holder(path: Path) -> str:
    """Return who holds, or held last, a lock file: process, host, user and since when."""
    try:
        who = json.loads(path.read_text())
        return f"process {who['pid']} on {who['host']} ({who['user']}, since {who['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
