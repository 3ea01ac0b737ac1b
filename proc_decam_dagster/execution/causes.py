"""Failures cause by cause: what is the same failure in many quanta is told once, with the next command to type."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.execution import failures
from proc_decam_dagster.execution.attempts import FailedQuantum
from proc_decam_dagster.execution.ledger import Ledger
from proc_decam_dagster.execution.rebuild import rebuild
from proc_decam_dagster.execution.retries import tries_left
from proc_decam_dagster.repository.chains import processing_chains

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

PERMANENT, TRANSIENT, LOST = "permanent", "transient", "lost"
_SHOWN_VALUES = 8
_VARIABLE = (
    (re.compile(r"\s*\(\S+:\d+\)$"), ""),  # the place that raised it
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}"), "…"),
    (re.compile(r"\{[^{}]*\}"), "{…}"),
    (re.compile(r"(?<![\w.])/[^\s'\":;,]+"), "/…"),
    (re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?"), "#"),
)
"""What differs between two messages of the same cause."""


@dataclass
class Cause:
    """Failed quanta of one cause.

    Attributes
    ----------
    exception, pattern : `str`
        Type, and what their messages have in common: ``#`` stands for a number.
    kind : `str`
        ``permanent``; ``transient``: it may pass; ``lost``: it went down with its driver.
    example : `str`
        A whole message.
    quanta : `list` [`FailedQuantum`]
        All of them.
    commands : `list` [`str`]
        What to type next, one a step.
    """

    exception: str
    pattern: str
    kind: str
    example: str
    quanta: list[FailedQuantum] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        """Task labels."""
        return sorted({q.task for q in self.quanta})

    @property
    def attempts(self) -> int:
        """Attempts of all its quanta."""
        return sum(q.attempts for q in self.quanta)

    @property
    def data_ids(self) -> list[str]:
        """Its data ids in short form, one line a chain."""
        by_chain = groupby(sorted(self.quanta, key=lambda q: q.chain), key=lambda q: q.chain)
        return [f"{chain}: {short_data_ids(q.data_id for q in quanta)}" for chain, quanta in by_chain]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-friendly values."""
        return {
            "exception": self.exception, "pattern": self.pattern, "kind": self.kind, "example": self.example,
            "tasks": self.tasks, "attempts": self.attempts, "commands": self.commands,
            "quanta": [
                {"chain": q.chain, "run": q.run, "task": q.task, "data_id": q.data_id, "attempts": q.attempts}
                for q in self.quanta
            ],
        }  # fmt: skip


@dataclass
class Failures:
    """The failures of a repository, or of one chain; ``blocked`` counts the quanta that wait for them in vain."""

    causes: list[Cause]
    blocked: int = 0

    def count(self, kind: str) -> int:
        """Return the number of quanta of a kind."""
        return sum(len(c.quanta) for c in self.causes if c.kind == kind)

    def __str__(self) -> str:
        kinds = ((PERMANENT, "failed for good"), (TRANSIENT, "failed and may pass"), (LOST, "lost with their driver"))
        counts = [f"{n} {words}" for kind, words in kinds if (n := self.count(kind))]
        counts += [f"{self.blocked} blocked by them"] if self.blocked else []
        return ", ".join(counts) or "no failures"


def failures_of(repository: "Repository", chain: str | None = None, *, retries: int) -> Failures:
    """Return the failures of a repository cause by cause, the most frequent first.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    chain : `str`, optional
        Only of this one.
    retries : `int`
        How often a step repeats a transient failure.
    """
    ledger = Ledger.of(repository)
    found: dict[tuple[str, str, str], Cause] = {}
    for quantum in ledger.failures(None if chain is None else [chain]):
        kind = LOST if quantum.lost else TRANSIENT if quantum.transient else PERMANENT
        key = (quantum.exception, message_pattern(quantum.message), kind)
        found.setdefault(key, Cause(*key, quantum.message)).quanta.append(quantum)
    for cause in found.values():
        cause.commands = _commands(repository, cause, retries)
    newest = {(s["chain"], s["step"]): s["standing"]["counts"]["blocked"] for s in ledger.steps()}
    steps = {(q.chain, q.step) for c in found.values() for q in c.quanta}
    blocked = sum(n for step, n in newest.items() if step in steps)
    return Failures(sorted(found.values(), key=lambda c: -len(c.quanta)), blocked)


def rebuild_all(
    repository: "Repository", chain: str | None = None, progress: Callable[[int, int, str], None] = lambda *_: None
) -> int:
    """Rebuild the records of one chain, or of all; return how many attempts were found. See `rebuild`."""
    chains = [chain] if chain else processing_chains(repository.butler())
    found = 0
    for number, name in enumerate(chains, 1):
        found += len(rebuild(repository, name, resources=True))
        progress(number, len(chains), name)
    return found


def message_pattern(message: str) -> str:
    """Return what messages of one cause have in common."""
    text = " ".join(message.split())
    for expression, instead in _VARIABLE:
        text = expression.sub(instead, text)
    return text[:200]


def short_data_ids(data_ids: Iterable[Mapping[str, Any]]) -> str:
    """Return data ids in short form, dimension by dimension: ``detector 1-3,31 exposure 830016``."""
    values: dict[str, set] = {}
    for data_id in data_ids:
        for name, value in data_id.items():
            values.setdefault(name, set()).add(value)
    values.pop("instrument", None)
    values.pop("skymap", None)
    return " ".join(f"{name} {_ranges(found)}" for name, found in values.items()) or "the whole chain"


def _ranges(values: set) -> str:
    if not all(isinstance(v, int) for v in values):
        texts = sorted(map(str, values))
    else:
        texts, run = [], []
        for value in [*sorted(values), None]:
            if run and value != run[-1] + 1:
                texts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
                run = []
            run.append(value)
    more = f" and {len(texts) - _SHOWN_VALUES} more" if len(texts) > _SHOWN_VALUES else ""
    return ",".join(texts[:_SHOWN_VALUES]) + more


def _commands(repository: "Repository", cause: Cause, retries: int) -> list[str]:
    found = {}
    for q in cause.quanta:
        parts = q.run.removeprefix(q.chain + "/").split("/")
        pipeline = f"pipelines/{parts[0]}.yaml" if len(parts) == 3 else "PIPELINE"
        found[
            failures.action(
                q.exception, q.transient, root=str(repository.root), chain=q.chain, step=q.step, pipeline=pipeline,
                tries_left=tries_left(q, retries), redone=q.redone,
            )
        ] = None  # fmt: skip
    return list(found)
