"""A SQLite registry whose writer was killed in the middle of a transaction, made readable again."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

_WAIT_SECONDS = 5.0


def roll_back_what_was_killed() -> None:
    """Let a transaction of this process first undo one that a killed process has left half done, from now on.

    SQLite does so by itself when the file is next read, unless it was opened only to be read, as the Butler's readers
    do: these get "attempt to write a readonly database" until somebody writes. So a reader that finds a journal reads
    once through a connection that may write. Whether a journal is a dead writer's, SQLite finds by its locks
    (https://www.sqlite.org/atomiccommit.html, section 4); a live writer's is left alone.
    """
    if not event.contains(Engine, "begin", _roll_back):
        event.listen(Engine, "begin", _roll_back)


def _roll_back(connection: Connection) -> None:
    url = connection.engine.url
    if connection.dialect.name != "sqlite" or not url.database or not os.path.exists(f"{url.database}-journal"):
        return
    address = f"{Path(url.database).absolute().as_uri()}?mode=rw"
    # What cannot be done here, for want of a permission or because it is locked, the reader itself will be told.
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(address, _WAIT_SECONDS, uri=True)) as database:
        database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
