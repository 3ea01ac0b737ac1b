"""`Bps`: the back end as `run_step` takes it, and the workflows that an earlier driver has left."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.execution.bps.configuration import Settings, load_settings
from proc_decam_dagster.execution.bps.run import BACKEND, BpsRun
from proc_decam_dagster.execution.bps.workflow import Workflow, unfinished
from proc_decam_dagster.execution.outputs import write_graph

if TYPE_CHECKING:
    from proc_decam_dagster.execution.graph import StepGraph
    from proc_decam_dagster.execution.graph_run import GraphOutcome
    from proc_decam_dagster.execution.pool import WorkerPool
    from proc_decam_dagster.repository import Repository


@dataclass(frozen=True)
class Bps:
    """Steps run by BPS.

    Attributes
    ----------
    site : `str`
        See `load_settings`.
    pipeline_dir : `str` or `os.PathLike`, optional
        A folder whose own `submit.yaml` replaces the packaged one.
    pool : `WorkerPool`, optional
        Its `~WorkerPool.stop` ends the waiting.
    """

    site: str = ""
    pipeline_dir: str | os.PathLike | None = None
    pool: "WorkerPool | None" = field(default=None, repr=False)
    name = BACKEND

    @property
    def memory_limit_mb(self) -> float:
        """The most memory that a quantum can be given (MB)."""
        return self._settings.number("memoryLimit")

    @cached_property
    def _settings(self) -> Settings:
        return load_settings(self.site, self.pipeline_dir)

    def run(
        self, repository: "Repository", step_graph: "StepGraph", *, chain: str, step: str, run: str, **options: Any
    ) -> "GraphOutcome":
        """Run a graph to its end; ``options`` are those of `BpsRun`."""
        settings = self._settings  # wrong ones are told before anything is written
        settings.require_folder(Path(repository.state_dir))
        workflow = Workflow.new(Path(repository.state_dir), chain=chain, step=step, run=run)
        write_graph(step_graph.components, workflow.graph)
        butler = repository.butler(writeable=True)
        return BpsRun(butler, repository.root, step_graph.graph, workflow, pool=self.pool, **options).execute(settings)


def resume(repository: "Repository", chain: str, **options: Any) -> Iterator[tuple[Workflow, "GraphOutcome"]]:
    """Wait for the workflows of a chain that earlier drivers have left, and register what they made.

    ``options`` are those of `BpsRun`. The chain's lock is held.
    """
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

    for workflow in unfinished(Path(repository.state_dir), chain):
        if not (workflow.graph.is_file() and workflow.submissions):  # nothing was submitted
            workflow.finish(keep_logs=False)
            continue
        graph = PredictedQuantumGraph.read_execution_quanta(str(workflow.graph))
        butler = repository.butler(writeable=True)
        yield workflow, BpsRun(butler, repository.root, graph, workflow, **options).resume()
