"""The ledger: every attempt of every quantum, in an SQLite file beside the repository, written by the driver only."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "ledger.sqlite"
SUCCEEDED, FAILED, INTERRUPTED = "succeeded", "failed", "interrupted"

type QuantumName = tuple[str, str]
"""Task label, and the data id as `data_id_key` writes it: names a quantum within a chain, whatever graph holds it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY,
    chain TEXT NOT NULL, run TEXT NOT NULL, step TEXT NOT NULL,
    task TEXT NOT NULL, data_id TEXT NOT NULL,
    backend TEXT NOT NULL, host TEXT NOT NULL,
    started REAL NOT NULL, seconds REAL NOT NULL, cpu_seconds REAL NOT NULL, peak_memory_mb REAL NOT NULL,
    outcome TEXT NOT NULL, exception TEXT NOT NULL, message TEXT NOT NULL, transient INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS attempt_of_quantum ON attempt (chain, task, data_id);
"""
_COLUMNS = (
    "chain", "run", "step", "task", "data_id", "backend", "host", "started", "seconds", "cpu_seconds",
    "peak_memory_mb", "outcome", "exception", "message", "transient",
)  # fmt: skip


def data_id_key(data_id: Mapping[str, Any]) -> str:
    """Return a data id as text that is the same whichever order its dimensions came in."""
    return json.dumps({k: v if isinstance(v, (int, str)) else str(v) for k, v in data_id.items()}, sort_keys=True)


@dataclass(frozen=True)
class Attempt:
    """One execution of one quantum.

    Attributes
    ----------
    task, data_id : `str`
        Task label, and data id as `data_id_key` writes it.
    started : `float`
        Unix time (s).
    seconds, cpu_seconds : `float`
        Wall clock and processor time.
    peak_memory_mb : `float`
        Largest resident memory of the worker during the quantum (MB).
    outcome : `str`
        ``succeeded``, ``failed`` or ``interrupted`` (stopped by the user: counts as no attempt).
    exception, message : `str`
        Type and text of what went wrong, empty on success.
    transient : `bool`
        Whether it may pass by itself.
    """

    task: str
    data_id: str
    started: float
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    outcome: str
    exception: str = ""
    message: str = ""
    transient: bool = False
    chain: str = ""
    run: str = ""
    step: str = ""
    backend: str = "local"
    host: str = ""


@dataclass(frozen=True)
class FailedQuantum:
    """A quantum whose newest attempt failed: how often it was tried, and why it failed the last time."""

    task: str
    data_id: dict[str, Any]
    exception: str
    message: str
    transient: bool
    attempts: int

    @property
    def name(self) -> QuantumName:
        """The quantum's name within its chain."""
        return self.task, data_id_key(self.data_id)


class Ledger:
    """The attempts of a repository; opened for each call, so that threads and processes may share the file."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    @classmethod
    def of(cls, repository) -> "Ledger":
        """Return a repository's ledger."""
        return cls(Path(repository.state_dir) / FILE_NAME)

    def _connect(self) -> closing[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=60)
        connection.row_factory = sqlite3.Row
        connection.executescript(_SCHEMA)
        return closing(connection)

    def record(self, attempts: Iterable[Attempt]) -> None:
        """Write attempts, all or none."""
        host = socket.gethostname()
        rows = [tuple(getattr(a, c) or (host if c == "host" else getattr(a, c)) for c in _COLUMNS) for a in attempts]
        if rows:
            insert = f"INSERT INTO attempt ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
            with self._connect() as connection, connection:
                connection.executemany(insert, rows)

    def attempts(self, chain: str, task: str | None = None) -> list[Attempt]:
        """Return a chain's attempts, oldest first."""
        if not self.path.exists():
            return []
        query = f"SELECT {', '.join(_COLUMNS)} FROM attempt WHERE chain = ? AND (? IS NULL OR task = ?) ORDER BY id"
        with self._connect() as connection:
            rows = connection.execute(query, (chain, task, task)).fetchall()
        return [Attempt(**(dict(row) | {"transient": bool(row["transient"])})) for row in rows]

    def failed(self, chain: str, tasks: Iterable[str]) -> dict[QuantumName, FailedQuantum]:
        """Return the quanta of a chain's tasks whose newest attempt failed, with their number of failed attempts.

        Only failures since the last success count.
        """
        wanted = set(tasks)
        found: dict[QuantumName, FailedQuantum] = {}
        for attempt in self.attempts(chain):
            name = (attempt.task, attempt.data_id)
            if attempt.task not in wanted or attempt.outcome == INTERRUPTED:
                continue
            before = found.pop(name, None)
            if attempt.outcome == FAILED:
                found[name] = FailedQuantum(
                    attempt.task, json.loads(attempt.data_id), attempt.exception, attempt.message, attempt.transient,
                    1 + (before.attempts if before else 0),
                )  # fmt: skip
        return found
