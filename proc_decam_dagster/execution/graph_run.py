"""One graph, run once: what every back end needs to know for it, and how its quanta stand."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from proc_decam_dagster.execution.attempts import Attempt, QuantumName, data_id_key
from proc_decam_dagster.execution.ledger import Ledger
from proc_decam_dagster.execution.outputs import Outputs
from proc_decam_dagster.execution.patience import patiently
from proc_decam_dagster.execution.report import Progress

if TYPE_CHECKING:
    from lsst.daf.butler import Butler
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

FLUSH_SECONDS = 60.0
"""Outputs that are ready are registered at least this often: what a crash of the driver can cost."""


@dataclass
class GraphOutcome:
    """How the quanta of a graph stand, and what running them took.

    ``attempts`` are the newest ones by quantum; ``tried`` counts all executions in this graph.
    """

    succeeded: set[QuantumName] = field(default_factory=set)
    blocked: set[QuantumName] = field(default_factory=set)
    failed: dict[QuantumName, Attempt] = field(default_factory=dict)
    tried: dict[QuantumName, int] = field(default_factory=dict)
    peak_mb: float = 0.0
    register_seconds: float = 0.0


class GraphRun:
    """One graph, run once: the base of what each back end makes of it.

    Parameters
    ----------
    butler : `~lsst.daf.butler.Butler`
        Writeable.
    root : `pathlib.Path`
        Root of its repository.
    graph : `~lsst.pipe.base.quantum_graph.PredictedQuantumGraph`
        What to run.
    step, chain, run : `str`
        For the ledger and the progress.
    ledger : `Ledger`
        Told of all attempts.
    retries : `int`, optional
        How often a transient failure is repeated at most.
    earlier : `~collections.abc.Mapping` [`QuantumName`, `int`], optional
        Failed attempts of earlier runs, which count too.
    memory_mb : `float`, optional
        What a quantum may take at first (MB); if not given, an equal share of this machine's memory, or what the
        configuration of BPS says of its task.
    requests : `~collections.abc.Mapping` [`QuantumName`, `float`], optional
        What those may take that ran out of memory in earlier runs (MB).
    time_limit : `float`, optional
        Seconds that a quantum may take.
    progress : `~collections.abc.Callable`, optional
        Called with a `Progress` after every quantum.
    """

    def __init__(
        self, butler: "Butler", root: Path, graph: "PredictedQuantumGraph", *, step: str, chain: str, run: str,
        ledger: Ledger, retries: int = 2, earlier: Mapping[QuantumName, int] | None = None,
        memory_mb: float | None = None, requests: Mapping[QuantumName, float] | None = None,
        time_limit: float | None = None, progress: Callable[[Progress], None] | None = None,
    ) -> None:  # fmt: skip
        self.root, self.graph, self.ledger = root, graph, ledger
        self.step, self.chain, self.run = step, chain, run
        self.retries, self.earlier, self.time_limit = retries, earlier or {}, time_limit
        self.memory_mb, self.requests, self.progress = memory_mb, dict(requests or {}), progress
        self.names: dict[UUID, QuantumName] = {
            quantum: (node["task_label"], data_id_key(dict(node["data_id"].required)))
            for quantum, node in graph.quantum_only_xgraph.nodes.items()
        }
        self.outcome = GraphOutcome()
        self.outputs = Outputs(butler, root, graph, run)
        self.started = self.flushed = time.monotonic()

    def count(self, attempt: Attempt) -> int:
        """Count an attempt that has ended; return how many of its quantum there were in this graph."""
        tried, name = self.outcome.tried, (attempt.task, attempt.data_id)
        tried[name] = tried.get(name, 0) + 1
        self.outcome.peak_mb = max(self.outcome.peak_mb, attempt.peak_memory_mb)
        return tried[name]

    def tell(self, task: str) -> None:
        """Call the progress callback."""
        if self.progress is None:
            return
        failed, blocked, total = len(self.outcome.failed), len(self.outcome.blocked), len(self.names)
        done = len(self.outcome.succeeded) + failed + blocked
        seconds = time.monotonic() - self.started
        left = seconds / max(done, 1) * (total - done)
        self.progress(Progress(self.step, task, done, total, failed, blocked, seconds, left))

    def flush(self, patience: float) -> None:
        """Write the new outputs to the registry and the new attempts to the ledger.

        Parameters
        ----------
        patience : `float`
            How long a database that is away is waited for (s).
        """
        start = time.monotonic()
        patiently(self.outputs.register, seconds=patience, before_repeat=self.outputs.forget_registered)
        attempts = self.settled()
        self.ledger.record(attempts, seconds=patience)
        self.recorded(attempts)
        self.flushed = time.monotonic()
        self.outcome.register_seconds += self.flushed - start

    def settled(self) -> list[Attempt]:
        """Return the attempts that have ended and are not in the ledger yet."""
        raise NotImplementedError

    def recorded(self, attempts: list[Attempt]) -> None:
        """Forget attempts that the ledger has now."""
        raise NotImplementedError
