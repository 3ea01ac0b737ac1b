"""Where a step's quanta run: the back ends, all of which take a graph and return a `GraphOutcome`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import local
from proc_decam_dagster.execution.graph_run import GraphOutcome
from proc_decam_dagster.execution.local import LocalRun
from proc_decam_dagster.execution.memory import MACHINE
from proc_decam_dagster.execution.outputs import graph_file

if TYPE_CHECKING:
    from proc_decam_dagster.execution.bps import Bps
    from proc_decam_dagster.execution.graph import StepGraph
    from proc_decam_dagster.execution.pool import WorkerPool
    from proc_decam_dagster.repository import Repository

GRAPHS = "graphs"
"""Folder of the graphs that workers of this machine read, beside the other records of a repository."""


class Local:
    """Warm workers on this machine.

    Parameters
    ----------
    pool : `WorkerPool`
        The workers.
    """

    name = local.BACKEND

    def __init__(self, pool: "WorkerPool") -> None:
        self.pool = pool

    @property
    def memory_limit_mb(self) -> float:
        """The most memory that a quantum can be given (MB)."""
        return MACHINE.total_mb

    def run(
        self, repository: "Repository", step_graph: "StepGraph", *, chain: str, step: str, run: str, **options: Any
    ) -> GraphOutcome:
        """Run a graph to its end; ``options`` are those of `GraphRun`."""
        tasks = {task.task_class.__module__ for task in step_graph.graph.pipeline_graph.tasks.values()}
        self.pool.preload(tasks | set(repository.engine.worker_modules))
        file = graph_file(Path(repository.state_dir) / GRAPHS, run)
        butler = repository.butler(writeable=True)
        return LocalRun(
            butler, repository.root, step_graph, file, self.pool, step=step, chain=chain, run=run, **options
        ).execute()


def back_end(chosen: "str | Bps", pool: "WorkerPool", pipeline_dir: str | Path | None = None) -> "Local | Bps":
    """Return the back end that is meant by a name, ``local`` or ``bps``, or by its options."""
    if chosen == local.BACKEND:
        return Local(pool)
    if chosen == "bps":
        from proc_decam_dagster.execution.bps import Bps

        chosen = Bps(pipeline_dir=pipeline_dir)
    if isinstance(chosen, str):
        raise SurveyError(f"back end {chosen!r} is unknown", "local or bps")
    return replace(chosen, pool=pool)  # whose stop is the step's, whatever runs its quanta
