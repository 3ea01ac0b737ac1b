"""The local back end: a graph run on warm workers, in the order of its dependencies, its outputs registered once."""

import errno
import heapq
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import networkx
from lsst.pipe.base.graph_walker import GraphWalker

from proc_decam_dagster.errors import disk_full
from proc_decam_dagster.execution import failures, graph_run
from proc_decam_dagster.execution.attempts import FAILED, INTERRUPTED, SUCCEEDED, Attempt
from proc_decam_dagster.execution.graph_run import GraphOutcome, GraphRun
from proc_decam_dagster.execution.memory import GROWTH, MACHINE
from proc_decam_dagster.execution.outputs import write_graph
from proc_decam_dagster.execution.patience import IMPATIENT_SECONDS, PATIENCE_SECONDS, patiently
from proc_decam_dagster.execution.pool import Ended, WorkerPool
from proc_decam_dagster.execution.worker import Work
from proc_decam_dagster.interrupts import deferred

if TYPE_CHECKING:
    from lsst.daf.butler import Butler

    from proc_decam_dagster.execution.graph import StepGraph

BACKEND = "local"


class LocalRun(GraphRun):
    """A graph, run on warm workers.

    Parameters
    ----------
    butler, root
        See `GraphRun`.
    step_graph : `StepGraph`
        What to run.
    path : `pathlib.Path`
        Where the graph is written for the workers; deleted afterwards.
    pool : `WorkerPool`
        Its workers stay warm.
    **options
        Those of `GraphRun`.
    """

    def __init__(
        self, butler: "Butler", root: Path, step_graph: "StepGraph", path: Path, pool: WorkerPool, **options: Any
    ) -> None:
        super().__init__(butler, root, step_graph.graph, **options)
        self.path, self.pool = path, pool
        write_graph(step_graph.components, path)
        self._journal = self.ledger.journal(chain=self.chain, run=self.run, step=self.step, backend=BACKEND)
        self._keys: dict[UUID, str] = {}
        self._begun: set[UUID] = set()
        self._killed = False

    def execute(self) -> GraphOutcome:
        """Run the graph to its end, or until Ctrl-C; in both cases the outputs of what finished are registered.

        Raises
        ------
        KeyboardInterrupt, PoolStopped
            After everything was put in order.
        SurveyError
            If there is no space left on the disk.
        """
        patience = PATIENCE_SECONDS
        try:
            with MACHINE.workers(self.pool.jobs):
                self.pool.start()
                patiently(self.outputs.prepare)
                self._schedule()
        except BaseException:
            patience = IMPATIENT_SECONDS
            with deferred():
                # An interrupt may have come in the middle of a fork: only a new pool is a sound one.
                self._killed = bool(self.pool.kill_busy()) or self._killed
                self.pool.close()
            raise
        finally:
            with deferred():
                self._put_in_order(patience)
        return self.outcome

    def _put_in_order(self, patience: float) -> None:
        """Register what finished and delete what did not; where that fails, graph and journal stay for the next run."""
        for quantum in self._begun:
            MACHINE.release(quantum)
        MACHINE.leave(self.path)
        for key in self._journal.under_way:
            self._journal.end(key, outcome=INTERRUPTED)
        try:
            self.flush(patience)
            left = [q for q in self._begun if self.names[q] not in self.outcome.succeeded]
            self.outputs.discard(left, killed=self._killed)
            self.path.unlink(missing_ok=True)
        finally:
            self._journal.close()

    def _schedule(self) -> None:
        """Start quanta as soon as what they need is there, the deepest first: their inputs are still cached."""
        xgraph = self.graph.quantum_only_xgraph.copy()
        depth = {q: -d for d, layer in enumerate(networkx.topological_generations(xgraph)) for q in layer}
        walker = GraphWalker(xgraph)
        ready: list[tuple[int, int, UUID]] = []
        later: deque[UUID] = deque()  # to be repeated with more memory, which leaves less for others beside them
        order = 0
        for fresh in walker:
            for quantum in sorted(fresh):
                heapq.heappush(ready, (depth[quantum], order := order + 1, quantum))
            while True:
                while ready and self.pool.free and self._submit(ready[0][2]):
                    heapq.heappop(ready)
                while later and not ready and self.pool.free and self._submit(later[0]):
                    later.popleft()
                if not (self.pool.busy or ready or later):
                    break
                ended = self.pool.wait(0.5 if self.pool.busy else 0.1)
                for end in ended:
                    again = self._settle(end, walker)
                    if again == "larger":
                        later.append(end.work.quantum)
                    elif again:
                        heapq.heappush(ready, (1, order := order + 1, end.work.quantum))
                if time.monotonic() - self.flushed > graph_run.FLUSH_SECONDS:
                    with deferred():
                        self.flush(PATIENCE_SECONDS)
                if ended:
                    break

    def _submit(self, quantum: UUID) -> bool:
        """Start a quantum if there is memory for it; return whether it was started."""
        name = self.names[quantum]
        memory = min(self.requests.get(name) or self.memory_mb or MACHINE.share_mb, MACHINE.total_mb)
        if not MACHINE.reserve(quantum, memory, self.path):
            return False
        repeat = name in self.outcome.tried
        self._begun.add(quantum)
        self._keys[quantum] = self._journal.begin(*name, memory)
        self.requests[name] = memory
        self.pool.submit(Work(str(self.path), str(self.root), quantum, repeat, memory), self.time_limit)
        return True

    def _settle(self, end: Ended, walker: GraphWalker) -> str:
        """Take note of an ended quantum; return ``""`` if it is settled, ``"again"`` or ``"larger"`` to repeat it."""
        quantum, result = end.work.quantum, end.outcome
        MACHINE.release(quantum)
        name = self.names[quantum]
        types = result.exception_types if result else (end.cause,)
        message = result.message if result else end.message
        ok = bool(result and result.ok)
        self._killed = self._killed or result is None
        full = not ok and failures.DISK_FULL in types
        transient = not ok and failures.is_transient(types, message)
        attempt = self._journal.end(
            self._keys.pop(quantum), seconds=end.seconds, cpu_seconds=result.cpu_seconds if result else 0.0,
            peak_memory_mb=result.peak_mb if result else 0.0,
            outcome=SUCCEEDED if ok else INTERRUPTED if full else FAILED, exception=types[0] if types else "",
            message=message, transient=transient,
        )  # fmt: skip
        tries = self.count(attempt)
        if full:  # every other quantum would fail of it too
            raise disk_full(OSError(errno.ENOSPC, "", str(self.root)))
        if result and result.provenance:
            self.outputs.add(quantum, result.provenance)
        again = ""
        if ok:
            self.outcome.succeeded.add(name)
            walker.finish(quantum)
        elif transient and tries + self.earlier.get(name, 0) <= self.retries:
            again = "again"
            if failures.wants_memory(types, message):
                again, self.requests[name] = "larger", GROWTH * attempt.memory_requested_mb
            self.outputs.forget(quantum)
        else:
            self.outcome.failed[name] = attempt
            self.outcome.blocked |= {self.names[q] for q in walker.fail(quantum)}
        self.tell(name[0])
        return again

    def settled(self) -> list[Attempt]:
        return self._journal.take()

    def recorded(self, attempts: list[Attempt]) -> None:
        self._journal.taken(attempts)
