"""Where and with how many cores steps run."""

import atexit
import os
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from proc_decam_dagster.cores import default_cores

if TYPE_CHECKING:
    from proc_decam_dagster.execution import WorkerPool
    from proc_decam_dagster.execution.bps import Bps

AS_CONFIGURED = "as configured"
"""What launch forms offer beside their choices."""

_pools: dict[int, "WorkerPool"] = {}


class Execution(dg.ConfigurableResource):
    """The back end: warm workers, shared by all the steps that run in one process, or jobs of a batch system by BPS."""

    jobs: int = Field(default=0, description="Cores of one execution; 0: `J` of the environment, or all there are")
    backend: Literal["local", "bps"] = Field(
        default="local", description="`local`: warm workers of this machine; `bps`: jobs on the site"
    )
    site: str = Field(
        default="", description="For BPS: `local`, `slurm` or a site file; that of `PROC_DECAM_SITE` if empty"
    )

    def back_end(self, chosen: str = AS_CONFIGURED) -> "str | Bps":
        """Return what `run_step` takes as its back end: the one that a launch form chose, or else that configured."""
        if (self.backend if chosen == AS_CONFIGURED else chosen) == "local":
            return "local"
        from proc_decam_dagster.execution.bps import Bps

        return Bps(self.site)

    @classmethod
    def from_environment(cls) -> "Execution":
        """Return the resource configured by ``PROC_DECAM_BACKEND`` and ``PROC_DECAM_SITE``."""
        return cls(backend=os.environ.get("PROC_DECAM_BACKEND", "local"))

    @property
    def cores(self) -> int:
        """The number of workers."""
        return self.jobs or default_cores()

    def pool(self, chosen: str = AS_CONFIGURED) -> "WorkerPool":
        """Return this process's warm workers; they are kept for its next steps and closed when it exits.

        Parameters
        ----------
        chosen : `str`
            Their number, as a launch form chose it.
        """
        from proc_decam_dagster.execution import WorkerPool

        cores = self.cores if chosen == AS_CONFIGURED else int(chosen)
        if cores not in _pools:
            _pools[cores] = WorkerPool(cores)
            atexit.register(_pools[cores].close)
        return _pools[cores]
