"""What an attempt of a quantum is, and what is known of a quantum that failed: plain dataclasses and their names."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SUCCEEDED, FAILED, INTERRUPTED, LOST, RELEASED = "succeeded", "failed", "interrupted", "lost", "released"
"""Outcomes of an attempt. ``interrupted``: stopped by the user, a full disk, a database that went away; counts as no
failure. ``lost``: begun, and never heard of again, because its driver died. ``released``: no attempt, but a note that
the failures before it count no more."""

type QuantumName = tuple[str, str]
"""Task label, and the data id as `data_id_key` writes it: names a quantum within a chain, whatever graph holds it."""


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
        See `SUCCEEDED` and the others.
    exception, message : `str`
        Type and text of what went wrong, empty on success.
    transient : `bool`
        Whether it may pass by itself.
    memory_requested_mb : `float`
        Memory that it was given (MB); 0 if nobody said.
    key : `str`
        Names the attempt in the ledger, which takes each key once; made up if empty.
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
    memory_requested_mb: float = 0.0
    key: str = ""


@dataclass(frozen=True)
class FailedQuantum:
    """A quantum whose newest attempt failed: how often it was tried since it last succeeded, and why it failed last.

    ``attempts`` counts all of these, ``losses`` those of them that went down with their driver. ``redone``: it had
    succeeded before, so that its chain still holds what it made then.
    """

    task: str
    data_id: dict[str, Any]
    exception: str
    message: str
    transient: bool
    attempts: int
    losses: int = 0
    memory_requested_mb: float = 0.0
    chain: str = ""
    run: str = ""
    step: str = ""
    redone: bool = False

    @property
    def name(self) -> QuantumName:
        """The quantum's name within its chain."""
        return self.task, data_id_key(self.data_id)

    @property
    def lost(self) -> bool:
        """Whether nothing is known of it but that it was begun."""
        return self.losses == self.attempts


def still_failed(attempts: Iterable[Attempt]) -> list[FailedQuantum]:
    """Return the quanta whose newest attempt failed or was lost, from attempts of any chains in order of time."""
    found: dict[tuple[str, ...], FailedQuantum] = {}
    made: set[tuple[str, ...]] = set()
    for attempt in attempts:
        name = (attempt.chain, attempt.task, attempt.data_id)
        if attempt.outcome == SUCCEEDED:
            made.add(name)
        if attempt.outcome == INTERRUPTED:
            continue
        before = found.pop(name, None)
        if attempt.outcome in (FAILED, LOST):
            found[name] = FailedQuantum(
                attempt.task, json.loads(attempt.data_id), attempt.exception, attempt.message, attempt.transient,
                1 + (before.attempts if before else 0),
                (attempt.outcome == LOST) + (before.losses if before else 0), attempt.memory_requested_mb,
                attempt.chain, attempt.run, attempt.step, name in made,
            )  # fmt: skip
    return list(found.values())
