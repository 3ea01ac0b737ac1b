"""One graph run by BPS: submitted, followed, what it made registered; what was lost or may pass submitted again."""

import errno
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import networkx

from proc_decam_dagster.errors import SurveyError, disk_full
from proc_decam_dagster.execution import failures
from proc_decam_dagster.execution.attempts import FAILED, INTERRUPTED, LOST, SUCCEEDED, Attempt, QuantumName
from proc_decam_dagster.execution.bps.clusters import cluster, read_plan, write_plan
from proc_decam_dagster.execution.bps.configuration import Settings, write_submission
from proc_decam_dagster.execution.bps.records import BEGUN, ENDED, Record, RecordReader
from proc_decam_dagster.execution.bps.submission import Submission
from proc_decam_dagster.execution.bps.workflow import Workflow
from proc_decam_dagster.execution.graph_run import FLUSH_SECONDS, GraphOutcome, GraphRun
from proc_decam_dagster.execution.memory import GROWTH
from proc_decam_dagster.execution.patience import IMPATIENT_SECONDS, PATIENCE_SECONDS, patiently
from proc_decam_dagster.execution.retries import LOSSES
from proc_decam_dagster.interrupts import deferred

if TYPE_CHECKING:
    from lsst.daf.butler import Butler
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

    from proc_decam_dagster.execution.pool import WorkerPool

log = logging.getLogger(__name__)

BACKEND = "bps"
_PLAN = "plan.json"
_PASSING = ("Interchange failed to start",)
"""What Parsl says on a machine that is too busy to start its processes in time."""


class BpsRun(GraphRun):
    """One graph, run by BPS.

    Parameters
    ----------
    butler, root, graph
        See `GraphRun`; the graph's file is the workflow's.
    workflow : `Workflow`
        What is recorded of it.
    pool : `WorkerPool`, optional
        Its `~WorkerPool.stop` ends the waiting, as Ctrl-C does.
    **options
        Those of `GraphRun`.
    """

    def __init__(
        self, butler: "Butler", root: Path, graph: "PredictedQuantumGraph", workflow: Workflow, *,
        pool: "WorkerPool | None" = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(butler, root, graph, step=workflow.step, chain=workflow.chain, run=workflow.run, **options)
        self.workflow, self.pool = workflow, pool
        self.xgraph = graph.quantum_only_xgraph
        self._asked: dict[UUID, float] = {}
        self._begun: dict[UUID, Record] = {}
        self._found_again = self._disk_full = self._cancelled_before = self._prepared = False
        self._losses: dict[QuantumName, int] = {}
        self._attempts: list[Attempt] = []
        self._to_discard: set[UUID] = set()

    def execute(self, settings: Settings) -> GraphOutcome:
        """Run the graph to its end.

        Ctrl-C ends the waiting only: the workflow goes on, and the same command finds it again.

        Raises
        ------
        SurveyError
            If it was cancelled, ended without having run anything, or there is no space left on the disk.
        """
        again = False
        while todo := self._left():
            tried = sum(self.outcome.tried.values())
            if not self.workflow.cancelled:
                submission = self._submit(todo, settings)
                if self.workflow.cancelled:  # by one who saw nothing submitted yet
                    submission.stop()
                self._follow(submission)
            self._close()
            if self.workflow.cancelled or self._disk_full:
                break
            if sum(self.outcome.tried.values()) == tried:
                why = submission.error() or submission.last_words()
                if not again and any(text in why for text in _PASSING):
                    log.warning("the workflow of %s ended and had run nothing (%s): once more", self.run, why)
                    again = True
                    continue
                self._finish()
                raise SurveyError(
                    f"the workflow of {self.run} ended and had run nothing: {why}",
                    "a workload management system that starts its jobs",
                    f"look into {submission.directory}, correct the site file, then run the same command again",
                )  # fmt: skip
        return self._finish()

    def resume(self) -> GraphOutcome:
        """Follow a workflow that an earlier driver has submitted, to the end of what is under way.

        Raises
        ------
        SurveyError
            If it is cancelled meanwhile; one that was cancelled before has merely ended.
        """
        log.warning("found the workflow of %s again; waiting for it", self.workflow.run)
        self._found_again = True
        self._cancelled_before = self.workflow.take_back_cancel()
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
            submission.directory, settings, root=self.root, graph=self.workflow.graph, chain=self.chain,
            run=self.run, name=submission.name, plan=submission.directory / _PLAN,
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
            self._prepare()
            # Asked first: what a process that is gone has written is all there.
            while alive := submission.alive() or submission.revive():
                for record in reader.new():
                    self._take(record, number)
                if time.monotonic() - self.flushed > FLUSH_SECONDS:
                    with deferred():
                        self.flush(PATIENCE_SECONDS)
                if self.pool is not None:
                    self.pool.check()
                time.sleep(submission.poll_seconds)
            if submission.failed():
                submission.clean_up()
        except BaseException:
            with deferred():
                self.flush(IMPATIENT_SECONDS)
            if alive:
                log.warning(
                    "the workflow of %s goes on: the same command finds it again, `proc-decam cancel %s %s` ends it",
                    self.run, self.root, self.chain,
                )  # fmt: skip
            raise
        for record in reader.new():
            self._take(record, number)
        for record in list(self._begun.values()):
            self._take_lost(record, number)

    def _prepare(self) -> None:
        """Make the RUN, once: while the workflow starts, whose jobs do not need it."""
        if not self._prepared:
            patiently(self.outputs.prepare)
            self._prepared = True

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
            full = not ok and failures.DISK_FULL in types
            self._disk_full = self._disk_full or full
            if result and result.provenance:
                self.outputs.add(record.quantum, result.provenance)
            self._settle(
                begun, number, seconds=record.time - begun.time, cpu_seconds=result.cpu_seconds if result else 0.0,
                peak_memory_mb=result.peak_mb if result else 0.0,
                outcome=SUCCEEDED if ok else INTERRUPTED if full else FAILED, exception=types[0] if types else "",
                message=message, transient=not ok and failures.is_transient(types, message),
            )  # fmt: skip
            if not ok and failures.wants_memory(types, message):
                self.requests[self.names[record.quantum]] = GROWTH * self._asked.get(record.quantum, 0.0)

    def _take_lost(self, begun: Record, number: int) -> None:
        """Take note of a quantum whose job is gone; from the second time on it may have been its memory."""
        name, cancelled = self.names[begun.quantum], self.workflow.cancelled or self._cancelled_before
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
        name = self.names[quantum]
        attempt = Attempt(
            *name, begun.time, **told, chain=self.chain, run=self.run, step=self.step, backend=BACKEND,
            host=begun.host, memory_requested_mb=self._asked.get(quantum, 0.0), key=f"{self.run}#{number}.{quantum}",
        )  # fmt: skip
        self._attempts.append(attempt)
        self._begun.pop(quantum, None)
        tries = self.count(attempt)
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
        self.tell(name[0])

    def _close(self) -> None:
        """Put in order what a submission has left: what it made is registered, what it half made is deleted."""
        with deferred():
            self.flush(PATIENCE_SECONDS)
            self.outputs.discard(self._to_discard)
            self._to_discard = set()

    def _finish(self) -> GraphOutcome:
        """Take the workflow off the record."""
        cancelled = self.workflow.cancelled
        left = self._left()
        with deferred():
            self.workflow.finish(keep_logs=bool(left or self.outcome.failed))
        if cancelled:
            raise SurveyError(
                f"the workflow of {self.run} was cancelled",
                fix="what had finished is registered; the same command runs the rest",
            )
        if self._disk_full and not self._found_again:  # every other quantum would fail of it too
            raise disk_full(OSError(errno.ENOSPC, "", str(self.root)))
        return self.outcome

    def flush(self, patience: float) -> None:
        if self._found_again:  # an earlier driver may have registered some of it
            patiently(self.outputs.forget_registered, seconds=patience)
        super().flush(patience)

    def settled(self) -> list[Attempt]:
        return list(self._attempts)

    def recorded(self, attempts: list[Attempt]) -> None:
        self._attempts = self._attempts[len(attempts) :]
