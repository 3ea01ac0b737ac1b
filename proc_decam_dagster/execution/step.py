"""`run_step`: one step of a chain run until complete."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError, require_room
from proc_decam_dagster.execution import failures
from proc_decam_dagster.execution.attempts import FailedQuantum, QuantumName
from proc_decam_dagster.execution.backends import GRAPHS, Local, back_end
from proc_decam_dagster.execution.bps import resume
from proc_decam_dagster.execution.coadd_memory import coadd_requests
from proc_decam_dagster.execution.graph import StepGraph, build_graph, load_pipeline
from proc_decam_dagster.execution.graph_run import GraphOutcome
from proc_decam_dagster.execution.ledger import Ledger
from proc_decam_dagster.execution.local import BACKEND
from proc_decam_dagster.execution.outputs import clear_up
from proc_decam_dagster.execution.patience import IMPATIENT_SECONDS, PATIENCE_SECONDS, patiently
from proc_decam_dagster.execution.pipelines import pipeline_path, split_fragment
from proc_decam_dagster.execution.pool import WorkerPool
from proc_decam_dagster.execution.rebuild import rebuild
from proc_decam_dagster.execution.report import Progress, QuantumFailure, StepReport, TaskCounts
from proc_decam_dagster.execution.retries import memory_requests, tries_left
from proc_decam_dagster.execution.standing import standing_of
from proc_decam_dagster.interrupts import deferred, terminate_as_interrupt
from proc_decam_dagster.repository import skymap_where, update_chain
from proc_decam_dagster.repository.amplifier_masks import mask_amplifiers
from proc_decam_dagster.repository.chains import runs_of
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.exclusions import exclusion_terms, exclusions_of
from proc_decam_dagster.survey import proc_types
from proc_decam_dagster.survey.collections import parse_chain, run_name

if TYPE_CHECKING:
    from proc_decam_dagster.execution.bps import Bps
    from proc_decam_dagster.repository import Repository

RETRIES = 2
"""How often a transient failure is repeated."""
SCIENCE = {"clean": "", "injected": "_injected"}
"""Suffix of the step by the science images that a difference is made of."""


def step_name(proc_type: str, step: str, science: str = "clean") -> str:
    """Return the pipeline's subset for a step, written ``step4a`` or ``4a``, on clean or injected science images."""
    if science not in SCIENCE:
        raise SurveyError(f"science images {science!r} are unknown", f"one of {', '.join(SCIENCE)}")
    if SCIENCE[science] and proc_types.proc_type(proc_type).name != "diff_drp":
        raise SurveyError(f"{proc_type} has no {science} science images", "diff_drp: no other step may see a fake")
    if step[:1].isdigit():
        step = f"step{step}"
    return step if not step or step.endswith(SCIENCE[science]) else step + SCIENCE[science]


def run_step(
    repository: "Repository",
    proc_type: str,
    subset: str = "",
    step: str = "",
    *,
    coadd_subset: str = "",
    template_type: str = "",
    where: str = "",
    science: str = "clean",
    jobs: int | None = None,
    pool: WorkerPool | None = None,
    pipeline: str | None = None,
    pipeline_dir: str | None = None,
    config: Mapping[str, Any] | None = None,
    skip_existing: bool = True,
    skip_failures: bool = True,
    retry_failed: bool = False,
    trigger_retry: bool = True,
    loop: bool = True,
    retries: int = RETRIES,
    time_limit: float | None = None,
    memory_mb: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    backend: "str | Bps" = BACKEND,
) -> StepReport:
    """Run a step of a chain until nothing is left that can be run, and update the chain.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    proc_type, subset, coadd_subset, template_type : `str`
        Name the chain.
    step : `str`
        Subset of the pipeline, ``step2a`` or ``2a``.
    where : `str`, optional
        Butler query; the instrument and the survey's skymap are added where it names none.
    science : `str`, optional
        ``clean`` or ``injected`` science images (diff_drp).
    jobs : `int`, optional
        Workers, if no ``pool`` is given; ``J`` of the environment by default.
    pool : `WorkerPool`, optional
        Warm workers, to be kept for other steps.
    pipeline, pipeline_dir : `str`, optional
        Another pipeline than the proc type's own; a ``#step`` in it counts if ``step`` is empty. See `pipeline_path`.
    config : `~collections.abc.Mapping`, optional
        Task configuration, ``{"label:field": value}``.
    skip_existing : `bool`, optional
        Whether quanta that succeeded in the chain are left out.
    skip_failures : `bool`, optional
        Whether quanta that failed for good are left out.
    retry_failed : `bool`, optional
        Run these again, their attempts forgotten; stronger than ``skip_failures``.
    trigger_retry : `bool`, optional
        Whether transient failures are repeated, now and those of earlier runs.
    loop : `bool`, optional
        Whether another graph is built for what was blocked and can go on with what succeeded.
    retries : `int`, optional
        How often a transient failure is repeated at most, earlier runs included.
    time_limit : `float`, optional
        Seconds that one quantum may take.
    memory_mb : `float`, optional
        What one quantum may take at first (MB), and twice as much each time that it ran out of it; an equal share of
        the machine's memory if not given.
    progress : `~collections.abc.Callable`, optional
        Called with a `Progress` after every quantum.
    backend : `str` or `Bps`, optional
        Where quanta run: ``local``, ``bps``, or `Bps` with its options.

    Raises
    ------
    SurveyError
        If inputs are missing, or a name is wrong. Failed quanta are no error: `StepReport.ok` tells.
    """
    row = proc_types.proc_type(proc_type)
    chain = row.chain(subset, coadd_subset, template_type)
    repository.engine.require()
    require_room(repository.root)
    name = pipeline or row.pipeline_name(template_type)
    path, fragment = split_fragment(pipeline_path(repository, name, pipeline_dir))
    step = step_name(row.name, step or fragment, science)
    tasks = load_pipeline(path, step, config)
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(repository.lock(chain))
        stack.enter_context(terminate_as_interrupt())
        where_to_run = back_end(backend, pool or stack.enter_context(WorkerPool(jobs)), pipeline_dir)

        def update() -> None:
            update_chain(repository, row.name, subset, coadd_subset, template_type)

        patiently(update)  # takes in what a killed run has left
        if row.name == "drp" and step in row.frame_steps:
            mask_amplifiers(repository, subset)
        run = _StepRun(
            repository, chain, path, step or "all", tasks, where, where_to_run, progress, update,
            retries=retries if trigger_retry else 0, time_limit=time_limit, memory_mb=memory_mb,
        )  # fmt: skip
        run.report.exclusions = [str(e) for e in exclusions_of(repository, subset)]
        run.take_up(where_to_run.pool)
        run.recall(skip=skip_failures and not retry_failed, forget=retry_failed)
        run.loop(skip_existing=skip_existing, once=not loop)
        return run.finish(time.monotonic() - started)


class _StepRun:
    """One call of `run_step`: what is known of each quantum, over all graphs of the call."""

    def __init__(
        self, repository: "Repository", chain: str, path: str, step: str, tasks, where: str,
        backend: "Local | Bps", progress: Callable[[Progress], None] | None, update_chain: Callable[[], None], *,
        retries: int, time_limit: float | None, memory_mb: float | None,
    ) -> None:  # fmt: skip
        self.update_chain = update_chain
        self.repository, self.chain, self.path, self.step, self.tasks = repository, chain, path, step, tasks
        self.where, self.backend, self.progress = where, backend, progress
        self.retries, self.time_limit, self.memory_mb = retries, time_limit, memory_mb
        self.skymap = skymap_where(repository) if repository.settings.skymap else ""
        self.ledger = Ledger.of(repository)
        self.graphs = Path(repository.state_dir) / GRAPHS
        self.report = StepReport(step, chain)
        self.labels: list[str] = []
        self.state: dict[QuantumName, str] = {}
        self.before: dict[QuantumName, FailedQuantum] = {}
        self.known_failed: set[QuantumName] = set()
        self.failures: dict[QuantumName, QuantumFailure] = {}
        self.redo = False

    def take_up(self, pool: WorkerPool) -> None:
        """Wait for the workflows of this chain that earlier drivers have left, and take in what they made."""
        for workflow, outcome in resume(
            self.repository, self.chain, ledger=self.ledger, retries=self.retries, progress=self.progress, pool=pool
        ):
            patiently(self.update_chain)
            if workflow.step == self.step:
                self.report.runs.append(workflow.run)
                self.report.run = workflow.run
                self._take_in(outcome)

    def recall(self, *, skip: bool, forget: bool) -> None:
        """Look up which quanta failed before, and which of them are not to be run again."""
        self.ledger.take_in()
        clear_up(self.repository, self.graphs, self.chain)
        rebuild(self.repository, self.chain)
        ledger = self.ledger.failed(self.chain, self.tasks.task_labels)
        if not forget:
            self.before = ledger
        if skip:
            self.known_failed = {n for n, f in ledger.items() if not tries_left(f, self.retries)}

    def loop(self, *, skip_existing: bool, once: bool) -> None:
        """Build and run graphs until one is empty, or nothing that was blocked is left."""
        self.redo = not skip_existing
        while True:
            start = time.monotonic()
            run = self._new_run()
            graph = patiently(partial(self._build, run, skip_existing))
            self.report.graph_seconds += time.monotonic() - start
            self._note_left_out(graph)
            if graph.graph is None:
                return
            blocked = self._run_graph(graph, run)
            if once or not blocked:
                return

    def _build(self, run: str, skip_existing: bool) -> StepGraph:
        """Build the graph of what is left to do."""
        done = [self.chain] if skip_existing else list(self.report.runs)
        return build_graph(
            self.repository.butler(), self.tasks, chain=self.chain, run=run, where=self.where, skip_existing_in=done,
            failed=self.known_failed, instrument=INSTRUMENT, skymap=self.skymap,
            excluded=partial(exclusion_terms, self.repository, night=parse_chain(self.chain).subset),
        )  # fmt: skip

    def _new_run(self) -> str:
        """Return a name for a RUN that does not exist; stamps have a resolution of a second."""
        taken = set(runs_of(self.repository.butler(), self.chain))
        while (name := run_name(self.chain, Path(self.path).stem, self.step)) in taken:
            time.sleep(0.1)
        return name

    def _note_left_out(self, graph: StepGraph) -> None:
        """Take note of the quanta that the graph leaves out, unless this call has dealt with them."""
        self.labels = graph.labels or self.labels
        self.report.left_out |= graph.left_out
        for name in graph.skipped:
            self.state.setdefault(name, "skipped")
        for name in graph.failed:
            self.state.setdefault(name, "failed")
            if name not in self.failures:
                self.failures[name] = self._earlier_failure(name)
        for name in graph.blocked:
            self.state.setdefault(name, "blocked")
        for name, dataset_type in graph.missing.items():
            self.state.setdefault(name, "failed")
            self.failures.setdefault(
                name, self._failure(name, failures.MISSING_INPUT, f"no {dataset_type} was found for it", False, 0)
            )

    def _run_graph(self, graph: StepGraph, run: str) -> bool:
        """Run a graph; return whether anything was blocked."""
        self.report.runs.append(run)
        self.report.run = run
        limit = self.backend.memory_limit_mb
        patience = IMPATIENT_SECONDS
        try:
            outcome = self.backend.run(
                self.repository, graph, chain=self.chain, step=self.step, run=run, ledger=self.ledger,
                retries=self.retries, time_limit=self.time_limit, memory_mb=self.memory_mb, progress=self.progress,
                requests=coadd_requests(graph.graph, self.repository.engine.coadd_memory_mb, limit)
                | memory_requests(self.before, limit),
                earlier={name: failed.attempts - failed.losses for name, failed in self.before.items()},
            )  # fmt: skip
            patience = PATIENCE_SECONDS
        finally:  # whatever ended it, what succeeded is there for the next graph
            with deferred():
                patiently(self.update_chain, seconds=patience)
        self._take_in(outcome)
        self.known_failed |= outcome.failed.keys()
        return bool(outcome.blocked)

    def _take_in(self, outcome: GraphOutcome) -> None:
        """Take note of how the quanta of a graph stand."""
        for name in outcome.succeeded:
            self.state[name] = "succeeded"
            self.failures.pop(name, None)
        for name in outcome.blocked:
            self.state[name] = "blocked"
        for name, attempt in outcome.failed.items():
            self.state[name] = "failed"
            before = self.before.get(name)
            attempts = outcome.tried[name] + (before.attempts if before else 0)
            self.failures[name] = self._failure(name, attempt.exception, attempt.message, attempt.transient, attempts)
        self.report.attempts += sum(outcome.tried.values())
        self.report.peak_rss_gb = max(self.report.peak_rss_gb, outcome.peak_mb / 1024)
        self.report.register_seconds += outcome.register_seconds
        self.report.quanta += len(outcome.tried)

    def _earlier_failure(self, name: QuantumName) -> QuantumFailure:
        f = self.before[name]
        return self._failure(name, f.exception, f.message, f.transient, f.attempts, earlier=True)

    def _failure(
        self, name: QuantumName, exception: str, message: str, transient: bool, attempts: int, earlier: bool = False
    ) -> QuantumFailure:
        data_id = json.loads(name[1])
        action = failures.action(
            exception, transient, root=str(self.repository.root), chain=self.chain, step=self.step, pipeline=self.path,
            data_id=data_id, redone=self.redo,
        )  # fmt: skip
        return QuantumFailure(name[0], data_id, exception, message, transient, attempts, action, earlier)

    def finish(self, seconds: float) -> StepReport:
        """Return the report."""
        self.report.seconds = seconds
        self.report.tasks = {label: TaskCounts() for label in self.labels}
        for (label, _), state in self.state.items():
            counts = self.report.tasks.setdefault(label, TaskCounts())
            setattr(counts, state, getattr(counts, state) + 1)
        order = {label: i for i, label in enumerate(self.report.tasks)}
        self.report.failures = [
            f for name, f in sorted(self.failures.items(), key=lambda item: (order.get(item[0][0], 0), item[0]))
            if self.state.get(name) == "failed"
        ]  # fmt: skip
        standing = standing_of(self.state, self.report.runs)
        self.ledger.record_step(self.chain, self.step, self.report.run, time.time(), seconds, standing)
        return self.report
