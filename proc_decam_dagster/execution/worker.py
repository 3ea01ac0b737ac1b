"""What a warm worker does: run one quantum after another, on one quantum-backed butler for a whole graph."""

import gc
import logging
import os
import resource
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from lsst.daf.butler import Quantum, QuantumBackedButler, QuantumProvenanceData
from lsst.daf.butler.datastore.record_data import DatastoreRecordData
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor

from proc_decam_dagster.errors import disk_full
from proc_decam_dagster.execution import failures, heap

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


_ROOM = 64 * 2**20


@dataclass(frozen=True)
class Work:
    """One quantum to run: of which graph file, on which repository, whether it was tried before in this RUN, and how
    much memory its worker may take (MB; 0 for any)."""

    graph: str
    root: str
    quantum: UUID
    repeat: bool = False
    memory_mb: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of a quantum.

    Attributes
    ----------
    quantum : `uuid.UUID`
        Its id in the graph.
    ok : `bool`
        Whether it succeeded.
    seconds, cpu_seconds : `float`
        Wall clock and processor time.
    peak_mb, resident_mb : `float`
        Largest resident memory during the quantum, and what was left after it (MB).
    provenance : `~lsst.daf.butler.QuantumProvenanceData` or `None`
        Datasets written, with their datastore records: all of them on success, the log alone on failure.
    exception_types : `tuple` [`str`]
        Bare names of the exception's type and its bases; empty on success.
    message : `str`
        The exception's text and the place that raised it.
    """

    quantum: UUID
    ok: bool
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    resident_mb: float = 0.0
    provenance: QuantumProvenanceData | None = None
    exception_types: tuple[str, ...] = ()
    message: str = ""


class WorkerButler(QuantumBackedButler):
    """A quantum-backed butler that lends its datastore to one butler a quantum.

    `QuantumBackedButler.initialize` reads the repository's configuration and makes a database each time, which took
    70 % of a small quantum's time.
    """

    def for_quantum(self, quantum: Quantum) -> "WorkerButler":
        """Return a butler that may read and write what a quantum predicts."""
        inputs = [ref.id for refs in quantum.inputs.values() for ref in refs]
        inputs += [ref.id for ref in quantum.initInputs.values()]
        outputs = [ref.id for refs in quantum.outputs.values() for ref in refs]
        return type(self)(
            inputs, outputs, self._dimensions, self._datastore, self.storageClasses, dataset_types=self._dataset_types
        )

    def discard_written(self, *, keep: str) -> None:
        """Delete what was written but the datasets of one type."""
        refs = [ref for ref in self._actual_output_refs if ref.datasetType.name != keep]
        if refs:
            self.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)

    def written(self) -> QuantumProvenanceData:
        """Return the datasets written and their datastore records, which this worker then forgets.

        A repeat may run in another worker: what this one remembered of the files' sizes would be wrong.
        """
        records = self._datastore.export_records(self._actual_output_refs)
        self._datastore.forget(self._actual_output_refs)
        return QuantumProvenanceData(
            predicted_inputs=set(), available_inputs=set(), actual_inputs=set(), predicted_outputs=set(),
            actual_outputs={ref.id for ref in self._actual_output_refs},
            datastore_records={name: data.to_simple() for name, data in records.items()},
        )  # fmt: skip


class LoadedGraph:
    """A graph read from its file, ready to run any of its quanta."""

    def __init__(self, path: str, root: str) -> None:
        graph = PredictedQuantumGraph.read_execution_quanta(path)
        self.path = path
        self.nodes = graph.quantum_only_xgraph.nodes
        self.quanta = graph.build_execution_quanta()
        self.butler = WorkerButler.from_predicted(
            config=root, predicted_inputs=(), predicted_outputs=(), dimensions=graph.pipeline_graph.universe,
            datastore_records=DatastoreRecordData.merge_mappings(*(q.datastore_records for q in self.quanta.values())),
            dataset_types={
                node.name: node.dataset_type for node in graph.pipeline_graph.dataset_types.values()
            },
        )  # fmt: skip

    def run(self, quantum_id: UUID, repeat: bool) -> tuple[WorkerButler, BaseException | None]:
        """Run a quantum; return its butler, and the exception if it failed."""
        quantum = self.quanta[quantum_id]
        task = self.nodes[quantum_id]["pipeline_node"]
        butler = self.butler.for_quantum(quantum)
        executor = SingleQuantumExecutor(
            limited_butler_factory=lambda _: butler, raise_on_partial_outputs=False,
            assume_no_existing_outputs=not repeat, clobber_outputs=True,
        )  # fmt: skip
        try:
            executor.execute(task, quantum, quantum_id)
        except (Exception, SystemExit) as error:
            butler.discard_written(keep=task.log_output.dataset_type_name if task.log_output else "")
            return butler, error
        return butler, None


def resident_mb(peak: bool = False) -> float:
    """Return this process's resident memory, or its largest since `reset_peak` (MB)."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:" if peak else "VmRSS:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak() -> None:
    """Start the measurement of peak memory anew; without Linux's /proc the peak is that of the process's life."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def limit_memory(memory_mb: float) -> None:
    """Let allocations fail beyond a resident memory (MB; 0: beyond nothing); Linux only.

    The limit is on what is allocated: memory that was allocated before and never touched is added to it.
    """
    try:
        with open("/proc/self/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        data, resident = (int(fields[name].split()[0]) * 1024 for name in ("VmData", "VmRSS"))
    except (OSError, KeyError):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # Room for the middleware's own needs, or nothing at all could run.
    limit = max(int(memory_mb * 2**20) + data - resident, data + _ROOM) if memory_mb else resource.RLIM_INFINITY
    if hard != resource.RLIM_INFINITY:
        limit = hard if limit == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _told(error: BaseException) -> dict[str, Any]:
    """Return the exception's types and its message, which ends with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    text = str(error).strip() or type(error).__name__
    types = [c.__name__ for e in (error, error.__cause__) if e is not None for c in type(e).__mro__]
    if disk_full(error) is not None:
        types.append(failures.DISK_FULL)
    return {"exception_types": tuple(types), "message": text[:2000] + place}


def serve(connection: "Connection") -> None:
    """Run quanta as they come through a pipe, until it is closed."""
    logging.getLogger().setLevel(logging.INFO)
    for noisy in ("numba", "matplotlib", "astropy", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    heap.keep_freed()
    loaded: LoadedGraph | None = None
    while True:
        try:
            work: Work = connection.recv()
        except (EOFError, OSError):
            return
        reset_peak()
        limit_memory(work.memory_mb)
        start, cpu = time.monotonic(), time.process_time()
        told: dict[str, Any] = {}
        try:
            if loaded is None or loaded.path != work.graph:
                loaded = None  # frees the old one first
                loaded = LoadedGraph(work.graph, work.root)
            butler, error = loaded.run(work.quantum, work.repeat)
            told["provenance"] = butler.written()
        except Exception as raised:  # the graph cannot be loaded, or what failed cannot be cleaned up
            error = raised
        if error is not None:
            told |= _told(error)
            if isinstance(error, MemoryError):
                gc.collect()
        limit_memory(0)
        peak = resident_mb(peak=True)
        heap.give_back()  # or it would count as the next quantum's
        outcome = Outcome(
            work.quantum, error is None, time.monotonic() - start, time.process_time() - cpu, peak, resident_mb(),
            **told,
        )  # fmt: skip
        error = butler = told = None  # type: ignore[assignment]  # a traceback would keep the task's images alive
        try:
            connection.send(outcome)
        except (BrokenPipeError, ConnectionResetError):
            return
