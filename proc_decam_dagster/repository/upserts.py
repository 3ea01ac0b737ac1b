"""Rows that the Butler inserts or replaces on Postgres, sent many at a time."""

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

PAGE = 500
"""Statements sent at once."""


def send_upserts_in_pages() -> None:
    """Let psycopg2 send ``INSERT … ON CONFLICT`` for many rows in pages, in this process, from now on.

    SQLAlchemy joins the rows of a plain INSERT, but waits for the server's answer to every row of one with a conflict
    clause; two of the Butler's tables of datasets are filled with these. The statements stay what they are. What is
    lost is the number of rows touched, that the Butler does not ask for where it gives many.
    """
    if not event.contains(Engine, "do_executemany", _send):
        event.listen(Engine, "do_executemany", _send)


def _send(cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
    if context is None or context.dialect.driver != "psycopg2" or " ON CONFLICT " not in statement:
        return None
    from psycopg2.extras import execute_batch

    execute_batch(cursor, statement, parameters, page_size=PAGE)
    return True
