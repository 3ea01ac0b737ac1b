"""What jobs write down of each quantum as they go, one file a job, and how the driver reads it as it grows.

A quantum that is begun and never ended was lost with its job: nothing else needs to be asked, of whatever workload
management system. Files are only ever appended to, so that a job that is killed leaves all it had finished.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import UUID

from lsst.daf.butler import QuantumProvenanceData

from proc_decam_dagster.execution.worker import Outcome

SUFFIX = ".jsonl"
BEGUN, ENDED, SKIPPED = "begun", "ended", "skipped"
"""Kinds of records. ``skipped``: not run, because what it needs was not made."""


@dataclass(frozen=True)
class Record:
    """What a job says of a quantum.

    Attributes
    ----------
    kind : `str`
        `BEGUN`, `ENDED` or `SKIPPED`.
    quantum : `uuid.UUID`
        Its id in the graph.
    time : `float`
        Unix time (s).
    host : `str`
        Node that it ran on.
    outcome : `Outcome` or `None`
        What the worker said of a quantum that ended; `None` if it died: ``cause`` and ``message`` then say how.
    """

    kind: str
    quantum: UUID
    time: float
    host: str
    outcome: Outcome | None = None
    cause: str = ""
    message: str = ""


class RecordWriter:
    """Appends records to a job's file; a context manager."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o664)
        if os.fstat(self._file).st_size:  # a job that was killed in the middle of a line
            os.write(self._file, b"\n")

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write(self, record: Record) -> None:
        """Append one record, in one call: a kill cannot mix two."""
        line = {f.name: getattr(record, f.name) for f in fields(record)}
        line |= {"quantum": str(record.quantum), "outcome": _plain(record.outcome)}
        os.write(self._file, (json.dumps({k: v for k, v in line.items() if v not in ("", None)}) + "\n").encode())


class RecordReader:
    """Reads the files of a folder, and what is appended to them."""

    def __init__(self, folder: Path, pattern: str = "*") -> None:
        self._folder, self._pattern = folder, pattern + SUFFIX
        self._read: dict[Path, int] = {}

    def new(self) -> Iterator[Record]:
        """Yield the records that came since the last call."""
        for path in sorted(self._folder.glob(self._pattern)):
            at = self._read.get(path, 0)
            with path.open("rb") as file:  # a network file system tells the true size to who opens the file
                file.seek(at)
                lines = file.read()
            complete = lines[: lines.rfind(b"\n") + 1]  # what is still being written is for the next call
            self._read[path] = at + len(complete)
            for line in complete.splitlines():
                if (record := _parsed(line)) is not None:
                    yield record


def _parsed(line: bytes) -> Record | None:
    try:
        told = json.loads(line)
    except ValueError:  # the stump of a killed job's line: the quantum counts as begun only
        return None
    return Record(**told | {"quantum": UUID(told["quantum"]), "outcome": _outcome(told.get("outcome"))})


def _plain(outcome: Outcome | None) -> dict[str, Any] | None:
    """Return an outcome as JSON-friendly values."""
    if outcome is None:
        return None
    plain = {f.name: getattr(outcome, f.name) for f in fields(outcome)}
    provenance = outcome.provenance and json.loads(outcome.provenance.model_dump_json())
    return plain | {"quantum": str(outcome.quantum), "provenance": provenance}


def _outcome(plain: dict[str, Any] | None) -> Outcome | None:
    if plain is None:
        return None
    provenance = plain.get("provenance")
    return Outcome(
        **plain | {
            "quantum": UUID(plain["quantum"]),
            "provenance": QuantumProvenanceData.direct(**provenance) if provenance else None,
            "exception_types": tuple(plain.get("exception_types", ())),
        }
    )  # fmt: skip
