"""Where and with how many cores steps run."""

import atexit
import os
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from proc_decam_dagster.execution import WorkerPool

_pools: dict[int, "WorkerPool"] = {}


class Execution(dg.ConfigurableResource):
    """The local back end: warm workers, shared by all the steps that run in one process."""

    jobs: int = Field(default=0, description="Cores of one execution; 0: `J` of the environment, or all there are")

    @property
    def cores(self) -> int:
        """The number of workers."""
        return self.jobs or int(os.environ.get("J", 0)) or os.cpu_count() or 1

    def pool(self) -> "WorkerPool":
        """Return this process's warm workers; they are kept for its next steps and closed when it exits."""
        from proc_decam_dagster.execution import WorkerPool

        if self.cores not in _pools:
            _pools[self.cores] = WorkerPool(self.cores)
            atexit.register(_pools[self.cores].close)
        return _pools[self.cores]
