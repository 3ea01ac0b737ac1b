"""The program of one job: its quanta one after the other in a warm worker, each written down as it begins and ends.

Run as ``python -m proc_decam_dagster.execution.bps.job ROOT GRAPH RECORDS --job NAME --quanta ID,ID…``. A quantum that
kills its worker, or takes longer than it may, costs one attempt of that quantum. A job that is started again goes on
where it was cut off; what it was at then is left to the driver, which may ask for more memory. Quanta whose upstream
failed are not run. The program fails only if it is killed: failed quanta are in the records.
"""

import argparse
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from uuid import UUID

from lsst.pipe.base.pipeline_graph import TaskImportMode
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from proc_decam_dagster.execution.bps.records import (
    BEGUN,
    ENDED,
    SKIPPED,
    SUFFIX,
    Record,
    RecordReader,
    RecordWriter,
)
from proc_decam_dagster.execution.failures import LOST, TIME_LIMIT
from proc_decam_dagster.execution.worker import Outcome, Work, serve
from proc_decam_dagster.interrupts import end_with_parent

NOT_MADE = "not_made"
"""Folder, in that of the records, of one empty file a quantum that did not succeed: jobs downstream look there."""


class _Worker:
    """A fork of this process that runs quanta; it dies with it."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                end_with_parent()
                self._connection.close()
                serve(theirs)
                status = 0
            finally:
                os._exit(status)
        theirs.close()

    def run(self, work: Work, time_limit: float | None) -> tuple[Outcome | None, str, str]:
        """Run a quantum; return what the worker says, or how it died, as a cause and a message."""
        connection: Connection = self._connection
        try:
            connection.send(work)
            if connection.poll(time_limit):
                return connection.recv(), "", ""
        except (EOFError, OSError):
            _, status = os.waitpid(self._pid, 0)
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            return None, LOST, f"worker {self._pid} {how}"
        self.close()
        return None, TIME_LIMIT, f"killed after {time_limit:.1f} s"

    def close(self) -> None:
        """Kill the worker."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._connection.close()


class Job:
    """The quanta of one job.

    Parameters
    ----------
    root, graph : `str`
        The repository's root, and the file of the step's graph.
    records : `pathlib.Path`
        Folder of the workflow's records.
    name : `str`
        The job's name.
    quanta : `list` [`uuid.UUID`]
        What to run, in any order.
    memory_mb, time_limit : `float`, optional
        Memory (MB) and time (s) that a quantum may take; 0 for any.
    repeat : `bool`, optional
        Whether quanta were tried before in this RUN, and may find files of theirs.
    """

    def __init__(
        self, root: str, graph: str, records: Path, name: str, quanta: list[UUID], *, memory_mb: float = 0.0,
        time_limit: float = 0.0, repeat: bool = False,
    ) -> None:  # fmt: skip
        self.root, self.graph, self.records, self.name, self.quanta = root, graph, records, name, quanta
        self.memory_mb, self.time_limit, self.repeat = memory_mb, time_limit or None, repeat
        self.not_made = records / NOT_MADE
        self._host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self._worker: _Worker | None = None

    def run(self) -> None:
        """Run what is left."""
        import networkx

        self.not_made.mkdir(parents=True, exist_ok=True)
        with PredictedQuantumGraph.open(self.graph, import_mode=TaskImportMode.DO_NOT_IMPORT) as reader:
            reader.read_thin_graph()
            upstream = reader.finish().quantum_only_xgraph
        order = [q for q in networkx.topological_sort(upstream) if q in set(self.quanta)]
        # A job that its system has given up for dead, and started again, may live on: one after the other.
        with (self.records / f"{self.name}.lock").open("w") as lock:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            settled, lost = self._before()
            with RecordWriter(self.records / (self.name + SUFFIX)) as writer:
                for quantum in order:
                    if quantum in lost:
                        self._mark(quantum)
                    elif quantum not in settled:
                        self._run_one(quantum, list(upstream.predecessors(quantum)), writer.write)
        if self._worker is not None:
            self._worker.close()

    def _before(self) -> tuple[set[UUID], set[UUID]]:
        """Return the quanta that an earlier execution of this job has settled, and those it was killed in."""
        settled, begun = set(), set()
        for record in RecordReader(self.records, self.name).new():
            (begun if record.kind == BEGUN else settled).add(record.quantum)
        return settled, begun - settled

    def _mark(self, quantum: UUID) -> None:
        (self.not_made / str(quantum)).touch()

    def _run_one(self, quantum: UUID, upstream: list[UUID], write: Callable[[Record], None]) -> None:
        if any((self.not_made / str(above)).exists() for above in upstream):
            self._mark(quantum)
            write(Record(SKIPPED, quantum, time.time(), self._host))
            return
        write(Record(BEGUN, quantum, time.time(), self._host))
        self._worker = self._worker or _Worker()
        work = Work(self.graph, self.root, quantum, self.repeat, self.memory_mb)
        outcome, cause, message = self._worker.run(work, self.time_limit)
        if outcome is None:
            self._worker = None
        if outcome is None or not outcome.ok:
            self._mark(quantum)  # before the record: who reads that may look for this
        write(Record(ENDED, quantum, time.time(), self._host, outcome, cause, message))


def main() -> None:
    """Run the job that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("graph")
    parser.add_argument("records", type=Path)
    parser.add_argument("--job", required=True)
    parser.add_argument("--quanta", required=True, type=lambda text: [UUID(q) for q in text.split(",")])
    parser.add_argument("--memory", dest="memory_mb", type=float, default=0.0, help="MB of one quantum; 0: any")
    parser.add_argument("--time-limit", type=float, default=0.0, help="seconds of one quantum; 0: any")
    parser.add_argument("--repeat", action="store_true", help="they were tried before in this RUN")
    given = parser.parse_args()
    Job(
        given.root, given.graph, given.records, given.job, given.quanta, memory_mb=given.memory_mb,
        time_limit=given.time_limit, repeat=given.repeat,
    ).run()  # fmt: skip


if __name__ == "__main__":
    main()
