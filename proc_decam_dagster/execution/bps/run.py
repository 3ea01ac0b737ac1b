"""One graph run by BPS: submitted, followed, what it made registered; what was lost or may pass submitted again."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import networkx

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import failures
from proc_decam_dagster.execution.attempts import (
    FAILED,
    INTERRUPTED,
    LOST,
    SUCCEEDED,
    Attempt,
    QuantumName,
    data_id_key,
)
from proc_decam_dagster.execution.bps.clusters import cluster, read_plan, write_plan
from proc_decam_dagster.execution.bps.configuration import Settings, write_submission
from proc_decam_dagster.execution.bps.records import BEGUN, ENDED, Record, RecordReader
from proc_decam_dagster.execution.bps.submission import Submission
from proc_decam_dagster.execution.bps.workflow import Workflow
from proc_decam_dagster.execution.interrupts import deferred
from proc_decam_dagster.execution.ledger import Ledger
from proc_decam_dagster.execution.local import FLUSH_SECONDS, IMPATIENT_SECONDS, GraphOutcome
from proc_decam_dagster.execution.memory import GROWTH
from proc_decam_dagster.execution.outputs import Outputs
from proc_decam_dagster.execution.patience import PATIENCE_SECONDS, patiently
from proc_decam_dagster.execution.report import Progress
from proc_decam_dagster.execution.retries import LOSSES

if TYPE_CHECKING:
    from lsst.daf.butler import Butler
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

    from proc_decam_dagster.execution.pool import WorkerPool

log = logging.getLogger(__name__)

BACKEND = "bps"
_PLAN = "plan.json"


class BpsRun:
    """One graph, run by BPS.

    Parameters
    ----------
    butler : `~lsst.daf.butler.Butler`
        Writeable.
    root : `pathlib.Path`
        Root of its repository.
    graph : `~lsst.pipe.base.quantum_graph.PredictedQuantumGraph`
        What to run; its file is the workflow's.
    workflow : `Workflow`
        What is recorded of it.
    ledger : `Ledger`
        Told of all attempts.
    retries : `int`, optional
        How often a transient failure is repeated at most.
    earlier : `~collections.abc.Mapping` [`QuantumName`, `int`], optional
        Failed attempts of earlier runs, which count too.
    memory_mb : `float`, optional
        What a quantum asks for at first (MB); what the configuration says of its task if not given.
    requests : `~collections.abc.Mapping` [`QuantumName`, `float`], optional
        What those ask for that ran out of memory in earlier runs (MB).
    time_limit : `float`, optional
        Seconds that a quantum may take.
    progress : `~collections.abc.Callable`, optional
        Called with a `Progress` as quanta end.
    pool : `WorkerPool`, optional
        Its `~WorkerPool.stop` ends the waiting, as Ctrl-C does.
    """

    def __init__(
        self, butler: "Butler", root: Path, graph: "PredictedQuantumGraph", workflow: Workflow, *, ledger: Ledger,
        retries: int = 2, earlier: Mapping[QuantumName, int] | None = None, memory_mb: float | None = None,
        requests: Mapping[QuantumName, float] | None = None, time_limit: float | None = None,
        progress: Callable[[Progress], None] | None = None, pool: "WorkerPool | None" = None,
    ) -> None:  # fmt: skip
        self.root, self.graph, self.workflow, self.ledger = root, graph, workflow, ledger
        self.retries, self.earlier, self.time_limit, self.progress = retries, earlier or {}, time_limit, progress
        self.memory_mb, self.requests, self.pool = memory_mb, dict(requests or {}), pool
        self.xgraph = graph.quantum_only_xgraph
        self.names: dict[UUID, QuantumName] = {
            q: (node["task_label"], data_id_key(dict(node["data_id"].required)))
            for q, node in self.xgraph.nodes.items()
        }
        self.outcome = GraphOutcome()
        self.outputs = Outputs(butler, root, graph, workflow.run)
        self._asked: dict[UUID, float] = {}
        self._begun: dict[UUID, Record] = {}
        self._found_again = False
        self._losses: dict[QuantumName, int] = {}
        self._attempts: list[Attempt] = []
        self._to_discard: set[UUID] = set()
        self._flushed = self._started = time.monotonic()

    def execute(self, settings: Settings) -> GraphOutcome:
        """Run the graph to its end.

        Ctrl-C ends the waiting only: the workflow goes on, and the same command finds it again.

        Raises
        ------
        SurveyError
            If it was cancelled, or ended without having run anything.
        """
        patiently(self.outputs.prepare)
        while todo := self._left():
            tried = sum(self.outcome.tried.values())
            submission = self._submit(todo, settings)
            self._follow(submission)
            self._close()
            if self.workflow.cancelled:
                break
            if sum(self.outcome.tried.values()) == tried:
                why = submission.error() or submission.last_words()
                self._finish()
                raise SurveyError(
                    f"the workflow of {self.workflow.run} ended and had run nothing: {why}",
                    "a workload management system that starts its jobs",
                    f"look into {submission.directory}, correct the site file, then run the same command again",
                )  # fmt: skip
        return self._finish()

    def resume(self) -> GraphOutcome:
        """Follow a workflow that an earlier driver has submitted, to the end of what is under way."""
        log.warning("found the workflow of %s again; waiting for it", self.workflow.run)
        self._found_again = True
        patiently(self.outputs.prepare)
        for submission in self.workflow.submissions:
            self._recall(submission)
            self._follow(submission)
            self._close()
        return self._finish()

    def _left(self) -> set[UUID]:
        """Return the quanta that are to be run, and can be."""
        settled = self.outcome.succeeded | self.outcome.failed.keys()
        blocked = set()
        for quantum, name in self.names.items():
            if name in self.outcome.failed:
                blocked |= networkx.descendants(self.xgraph, quantum)
        self.outcome.blocked = {self.names[q] for q in blocked} - settled
        return {q for q, name in self.names.items() if name not in settled and q not in blocked}

    def _submit(self, todo: set[UUID], settings: Settings) -> Submission:
        """Share quanta out to jobs and submit these; all of it is recorded before."""
        limit = settings.number("memoryLimit")
        memory = {
            q: int(min(max(self.requests.get(self.names[q], 0), self._base(q, settings)), limit)) for q in todo
        }  # fmt: skip
        jobs = cluster(
            self.xgraph, todo, jobs=settings.workers, max_quanta=settings.number("maxQuantaPerJob"), memory=memory
        )
        submission = self.workflow.add(settings.values.get("workflowJob"))
        write_plan(submission.directory / _PLAN, jobs)
        write_submission(
            submission.directory, settings, root=self.root, graph=self.workflow.graph, chain=self.workflow.chain,
            run=self.workflow.run, name=submission.name, plan=submission.directory / _PLAN,
            memory={job.label: job.memory_mb for job in jobs}, time_limit=self.time_limit,
            repeat=len(self.workflow.submissions) > 1,
        )  # fmt: skip
        self._recall(submission)
        submission.start()
        log.info("submitted %d quanta in %d jobs from %s", len(todo), len(jobs), submission.directory)
        return submission

    def _base(self, quantum: UUID, settings: Settings) -> float:
        return self.memory_mb or settings.memory_mb(self.names[quantum][0])

    def _recall(self, submission: Submission) -> None:
        """Look up what memory the quanta of a submission ask for."""
        self._begun = {}
        if (plan := submission.directory / _PLAN).is_file():
            self._asked = {q: float(job.memory_mb) for job in read_plan(plan) for q in job.quanta}

    def _follow(self, submission: Submission) -> None:
        """Take in what jobs write down until the workflow has ended, and nothing of it is left running."""
        reader = RecordReader(submission.records)
        number, alive = int(submission.directory.name.rpartition("_")[2]), True
        try:
            # Asked first: what a process that is gone has written is all there.
            while alive := submission.alive() or submission.revive():
                for record in reader.new():
                    self._take(record, number)
                if time.monotonic() - self._flushed > FLUSH_SECONDS:
                    with deferred():
                        self._flush(PATIENCE_SECONDS)
                if self.pool is not None:
                    self.pool.check()
                time.sleep(submission.poll_seconds)
            if submission.failed():
                submission.clean_up()
        except BaseException:
            with deferred():
                self._flush(IMPATIENT_SECONDS)
            if alive:
                log.warning(
                    "the workflow of %s goes on: the same command finds it again, `proc-decam cancel %s %s` ends it",
                    self.workflow.run, self.root, self.workflow.chain,
                )  # fmt: skip
            raise
        for record in reader.new():
            self._take(record, number)
        for record in list(self._begun.values()):
            self._take_lost(record, number)

    def _take(self, record: Record, number: int) -> None:
        """Take note of what a job says of a quantum."""
        if record.kind == BEGUN:
            self._begun[record.quantum] = record
        elif record.kind == ENDED:
            begun = self._begun.get(record.quantum, record)
            result = record.outcome
            types = result.exception_types if result else (record.cause,)
            message = result.message if result else record.message
            ok = bool(result and result.ok)
            if result and result.provenance:
                self.outputs.add(record.quantum, result.provenance)
            self._settle(
                begun, number, seconds=record.time - begun.time, cpu_seconds=result.cpu_seconds if result else 0.0,
                peak_memory_mb=result.peak_mb if result else 0.0, outcome=SUCCEEDED if ok else FAILED,
                exception=types[0] if types else "", message=message,
                transient=not ok and failures.is_transient(types, message),
            )  # fmt: skip
            if not ok and failures.wants_memory(types, message):
                self.requests[self.names[record.quantum]] = GROWTH * self._asked.get(record.quantum, 0.0)

    def _take_lost(self, begun: Record, number: int) -> None:
        """Take note of a quantum whose job is gone; from the second time on it may have been its memory."""
        name, cancelled = self.names[begun.quantum], self.workflow.cancelled
        self._losses[name] = self._losses.get(name, 0) + 1
        if self._losses[name] > 1:
            self.requests[name] = GROWTH * self._asked.get(begun.quantum, 0.0)
        self._settle(
            begun, number, seconds=0.0, cpu_seconds=0.0, peak_memory_mb=0.0, outcome=INTERRUPTED if cancelled else LOST,
            exception="" if cancelled else failures.LOST, message=f"its job on {begun.host} ended before it",
            transient=True,
        )  # fmt: skip

    def _settle(self, begun: Record, number: int, **told: object) -> None:
        """Keep an attempt for the ledger, and decide whether the quantum is to be run again."""
        quantum = begun.quantum
        name, run = self.names[quantum], self.workflow.run
        attempt = Attempt(
            *name, begun.time, **told, chain=self.workflow.chain, run=run, step=self.workflow.step, backend=BACKEND,
            host=begun.host, memory_requested_mb=self._asked.get(quantum, 0.0), key=f"{run}#{number}.{quantum}",
        )  # fmt: skip
        self._attempts.append(attempt)
        self._begun.pop(quantum, None)
        self.outcome.tried[name] = tries = self.outcome.tried.get(name, 0) + 1
        self.outcome.peak_mb = max(self.outcome.peak_mb, attempt.peak_memory_mb)
        losses = self._losses.get(name, 0)
        if attempt.outcome == SUCCEEDED:
            self.outcome.succeeded.add(name)
            self._to_discard.discard(quantum)
        elif attempt.transient and tries - losses + self.earlier.get(name, 0) <= self.retries and losses <= LOSSES:
            self.outputs.forget(quantum)
            self._to_discard.add(quantum)
        else:
            self.outcome.failed[name] = attempt
            self._to_discard.add(quantum)
        self._tell(name[0])

    def _close(self) -> None:
        """Put in order what a submission has left: what it made is registered, what it half made is deleted."""
        with deferred():
            self._flush(PATIENCE_SECONDS)
            self.outputs.discard(self._to_discard)
            self._to_discard = set()

    def _finish(self) -> GraphOutcome:
        """Take the workflow off the record."""
        cancelled = self.workflow.cancelled
        left = self._left()
        with deferred():
            self.workflow.finish(keep_logs=bool(left or self.outcome.failed))
        if cancelled and not self._found_again:
            raise SurveyError(
                f"the workflow of {self.workflow.run} was cancelled",
                fix="what had finished is registered; the same command runs the rest",
            )
        return self.outcome

    def _tell(self, task: str) -> None:
        """Call the progress callback."""
        if self.progress is None:
            return
        failed = len(self.outcome.failed)
        done, total = len(self.outcome.succeeded) + failed, len(self.names)
        seconds = time.monotonic() - self._started
        self.progress(
            Progress(self.workflow.step, task, done, total, failed, 0, seconds, seconds / max(done, 1) * (total - done))
        )

    def _flush(self, patience: float) -> None:
        """Write the new outputs to the registry and the new attempts to the ledger."""
        start = time.monotonic()
        patiently(self._register, seconds=patience)
        self.ledger.record(self._attempts, seconds=patience)
        self._attempts = []
        self._flushed = time.monotonic()
        self.outcome.register_seconds += self._flushed - start

    def _register(self) -> None:
        if self._found_again:  # an earlier driver may have registered some of it
            self.outputs.forget_registered()
        self.outputs.register()
