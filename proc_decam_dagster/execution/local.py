"""The local back end: a graph run on warm workers, in the order of its dependencies, its outputs registered once."""

import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import networkx
from lsst.pipe.base.graph_walker import GraphWalker

from proc_decam_dagster.execution import failures
from proc_decam_dagster.execution.attempts import FAILED, INTERRUPTED, SUCCEEDED, Attempt, QuantumName, data_id_key
from proc_decam_dagster.execution.interrupts import deferred
from proc_decam_dagster.execution.outputs import Outputs
from proc_decam_dagster.execution.pool import Ended, WorkerPool
from proc_decam_dagster.execution.report import Progress
from proc_decam_dagster.execution.worker import Work

if TYPE_CHECKING:
    from lsst.daf.butler import Butler

    from proc_decam_dagster.execution.graph import StepGraph

BACKEND = "local"
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
    """One graph, run once.

    Parameters
    ----------
    butler : `~lsst.daf.butler.Butler`
        Writeable.
    root : `pathlib.Path`
        Root of its repository, for the workers.
    step_graph : `StepGraph`
        What to run.
    path : `pathlib.Path`
        Where the graph is written for the workers; deleted afterwards.
    pool : `WorkerPool`
        Its workers stay warm.
    step, chain, run : `str`
        For the ledger and the progress.
    record : `~collections.abc.Callable`
        Called with a list of attempts, as they come.
    retries : `int`, optional
        How often a transient failure is repeated at most.
    earlier : `~collections.abc.Mapping` [`QuantumName`, `int`], optional
        Failed attempts of earlier runs, which count too.
    time_limit : `float`, optional
        Seconds that a quantum may take.
    progress : `~collections.abc.Callable`, optional
        Called with a `Progress` after every quantum.
    """

    def __init__(
        self, butler: "Butler", root: Path, step_graph: "StepGraph", path: Path, pool: WorkerPool, *, step: str,
        chain: str, run: str, record: Callable[[list[Attempt]], None], retries: int = 2,
        earlier: Mapping[QuantumName, int] | None = None, time_limit: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:  # fmt: skip
        self.graph = step_graph.graph
        self.path, self.root, self.pool = path, root, pool
        self.step, self.chain, self.run_name = step, chain, run
        self.record, self.retries, self.time_limit, self.progress = record, retries, time_limit, progress
        self.earlier = earlier or {}
        self.nodes = self.graph.quantum_only_xgraph.nodes
        self.names: dict[UUID, QuantumName] = {
            q: (node["task_label"], data_id_key(dict(node["data_id"].required))) for q, node in self.nodes.items()
        }
        self.outcome = GraphOutcome()
        self.outputs = Outputs(butler, root, self.graph, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        step_graph.components.write(str(path))
        self._new: list[Attempt] = []
        self._begun: set[UUID] = set()
        self._flushed = self._started = time.monotonic()

    def execute(self) -> GraphOutcome:
        """Run the graph to its end, or until Ctrl-C; in both cases the outputs of what finished are registered.

        Raises
        ------
        KeyboardInterrupt, PoolStopped
            After everything was put in order.
        """
        interrupted: list[Work] = []
        try:
            self.outputs.prepare()
            self._schedule()
        except BaseException:
            with deferred():
                # An interrupt may have come in the middle of a fork: only a new pool is a sound one.
                interrupted = self.pool.kill_busy()
                self.pool.close()
            raise
        finally:
            with deferred():
                now = time.time()
                for work in interrupted:
                    self._new.append(
                        Attempt(
                            *self.names[work.quantum], now, 0, 0, 0, INTERRUPTED, chain=self.chain, run=self.run_name,
                            step=self.step,
                        )
                    )  # fmt: skip
                self._flush()
                self.outputs.discard(q for q in self._begun if self.names[q] not in self.outcome.succeeded)
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        return self.outcome

    def _schedule(self) -> None:
        """Start quanta as soon as what they need is there, the deepest first: their inputs are still cached."""
        xgraph = self.graph.quantum_only_xgraph.copy()
        depth = {q: -d for d, layer in enumerate(networkx.topological_generations(xgraph)) for q in layer}
        walker = GraphWalker(xgraph)
        ready: list[tuple[int, int, UUID]] = []
        alone: deque[UUID] = deque()  # to be repeated with the machine to themselves
        order = 0
        for fresh in walker:
            for quantum in sorted(fresh):
                heapq.heappush(ready, (depth[quantum], order := order + 1, quantum))
            exclusive = False
            while ready and self.pool.free and not exclusive:
                self._submit(heapq.heappop(ready)[2])
            if alone and not ready and not self.pool.busy:
                exclusive = True
                self._submit(alone.popleft())
            while self.pool.busy:
                ended = self.pool.wait()
                for end in ended:
                    again = self._settle(end, walker)
                    if again == "alone":
                        alone.append(end.work.quantum)
                    elif again:
                        heapq.heappush(ready, (1, order := order + 1, end.work.quantum))
                if time.monotonic() - self._flushed > FLUSH_SECONDS:
                    with deferred():
                        self._flush()
                if ended:
                    break

    def _submit(self, quantum: UUID) -> None:
        repeat = self.names[quantum] in self.outcome.tried
        self._begun.add(quantum)
        self.pool.submit(Work(str(self.path), str(self.root), quantum, repeat), self.time_limit)

    def _settle(self, end: Ended, walker: GraphWalker) -> str:
        """Take note of an ended quantum; return ``""`` if it is settled, ``"again"`` or ``"alone"`` to repeat it."""
        quantum, result = end.work.quantum, end.outcome
        name = self.names[quantum]
        self.outcome.tried[name] = tries = self.outcome.tried.get(name, 0) + 1
        types = result.exception_types if result else (end.cause,)
        message = result.message if result else end.message
        ok = bool(result and result.ok)
        transient = not ok and failures.is_transient(types, message)
        attempt = Attempt(
            *name, time.time() - end.seconds, end.seconds, result.cpu_seconds if result else 0.0,
            result.peak_mb if result else 0.0, SUCCEEDED if ok else FAILED, types[0] if types else "", message,
            transient, self.chain, self.run_name, self.step, BACKEND,
        )  # fmt: skip
        self._new.append(attempt)
        self.outcome.peak_mb = max(self.outcome.peak_mb, attempt.peak_memory_mb)
        if result and result.provenance:
            self.outputs.add(quantum, result.provenance)
        again = ""
        if ok:
            self.outcome.succeeded.add(name)
            walker.finish(quantum)
        elif transient and tries + self.earlier.get(name, 0) <= self.retries:
            again = "alone" if failures.wants_memory(types, message) else "again"
            self.outputs.forget(quantum)
        else:
            self.outcome.failed[name] = attempt
            self.outcome.blocked |= {self.names[q] for q in walker.fail(quantum)}
        self._tell(name[0])
        return again

    def _tell(self, task: str) -> None:
        """Call the progress callback."""
        if self.progress is None:
            return
        done = len(self.outcome.succeeded) + len(self.outcome.failed) + len(self.outcome.blocked)
        seconds = time.monotonic() - self._started
        left = len(self.names) - done
        self.progress(
            Progress(
                self.step, task, done, len(self.names), len(self.outcome.failed), len(self.outcome.blocked), seconds,
                seconds / max(done, 1) * left,
            )
        )  # fmt: skip

    def _flush(self) -> None:
        """Write the new attempts to the ledger and the new outputs to the registry."""
        start = time.monotonic()
        self.outputs.register()
        self.record(self._new)
        self._new = []
        self._flushed = time.monotonic()
        self.outcome.register_seconds += self._flushed - start
