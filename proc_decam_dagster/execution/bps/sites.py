"""Where Parsl runs the jobs of a workflow: on this machine, or in Slurm jobs ("blocks") of many workers each.

The plug-in's own sites take no partition, no account of memory and no limit to what is waited for; these do, and note
the ids of the Slurm jobs, so that what a killed workflow leaves behind can be cancelled.
"""

import math
import os
import sys
from pathlib import Path
from typing import Any

from lsst.ctrl.bps.parsl.configuration import get_bps_config_value
from lsst.ctrl.bps.parsl.site import SiteConfig
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.executors.base import ParslExecutor
from parsl.launchers import SimpleLauncher, SrunLauncher
from parsl.providers import LocalProvider, SlurmProvider

from proc_decam_dagster.execution.bps import slurm
from proc_decam_dagster.execution.bps.submission import SLURM_JOBS

_STRATEGY_SECONDS = 0.5
"""How soon Parsl sees that blocks are wanted; Slurm is asked for their states as often as ``poll_seconds`` says."""


class _Site(SiteConfig):
    """One executor for each amount of memory that jobs of this workflow ask for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, resource_list=["priority"])

    def _value(self, key: str, kind: type, default: Any = None) -> Any:
        """Return a setting of the site, which may have come as text from the environment."""
        value = get_bps_config_value(self.site, key, object, default)
        return value if value is None or value == "" else kind(value)

    @property
    def directory(self) -> Path:
        """The submission's directory."""
        return Path(get_bps_config_value(self.config, "planFile", str, required=True)).parent

    @property
    def memories(self) -> list[int]:
        """Amounts of memory that jobs ask for (MB), the least first."""
        return sorted(int(m) for m in str(self.config["jobMemories"]).split(","))

    def get_parsl_config(self) -> Config:
        """Return the configuration of Parsl."""
        config = super().get_parsl_config()
        config.strategy_period = _STRATEGY_SECONDS
        return config

    def get_executors(self) -> list[ParslExecutor]:
        """Return the executors."""
        return [self.make_executor(megabytes) for megabytes in self.memories]

    def make_executor(self, megabytes: int) -> ParslExecutor:
        """Return the executor for jobs that ask for this much memory (MB)."""
        raise NotImplementedError

    def select_executor(self, job: Any) -> str:
        """Return the label of a job's executor."""
        return self._label(job.generic.request_memory)

    @staticmethod
    def _label(megabytes: int) -> str:
        return f"memory_{megabytes}"

    def get_address(self) -> str | None:
        """Return the address that workers connect to; if none is set Parsl tries all that this machine has."""
        return self._value("address", str)

    def _ends(self) -> dict[str, Any]:
        """Return how soon a lost node is noticed (s), and an interchange that no lost process leaves behind."""
        threshold = self._value("heartbeat_threshold", int, 120)
        return {
            "heartbeat_threshold": threshold, "heartbeat_period": max(1, threshold // 4),
            "interchange_launch_cmd": [sys.executable, "-m", "proc_decam_dagster.execution.bps.interchange"],
        }  # fmt: skip


class Local(_Site):
    """This machine: ``cores`` workers, fewer where jobs ask for more memory than it has."""

    def make_executor(self, megabytes: int) -> ParslExecutor:
        cores = self._value("cores", int, os.cpu_count())
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**2
        return HighThroughputExecutor(
            self._label(megabytes), provider=LocalProvider(init_blocks=1, max_blocks=1), address="127.0.0.1",
            max_workers_per_node=max(1, min(cores, int(total // megabytes))), **self._ends(),
        )  # fmt: skip


class RecordingSlurmProvider(SlurmProvider):
    """Parsl's provider, which notes each job's id before anything waits for it.

    Parameters
    ----------
    record : `pathlib.Path`
        File that ids are appended to.
    poll_seconds : `int`
        How often Slurm is asked for its jobs' states (s).
    **kwargs
        Parsl's own.
    """

    def __init__(self, *, record: Path, poll_seconds: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.record, self.poll_seconds = record, poll_seconds

    def submit(self, command: str, tasks_per_node: int, job_name: str = "parsl.slurm") -> str:
        """Submit a block, once Slurm answers; return its id."""
        slurm.in_queue()
        job_id = super().submit(command, tasks_per_node, job_name)
        with self.record.open("a") as file:
            file.write(f"{job_id}\n")
        return job_id

    @property
    def status_polling_interval(self) -> int:
        """Seconds between questions to Slurm."""
        return self.poll_seconds


class Slurm(_Site):
    """Slurm jobs of ``nodes`` nodes with ``cores_per_node`` workers each, ``max_blocks`` of them at once.

    Keys of the site, all optional: ``walltime`` (12:00:00), ``nodes`` (1), ``cores_per_node`` (1),
    ``max_blocks`` (1), ``mem_per_node`` (GB; by default what its workers ask for), ``partition``, ``account``,
    ``qos``, ``constraint``, ``exclusive`` (false), ``scheduler_options`` (lines of ``#SBATCH``), ``worker_init``
    (shell commands before the workers start), ``address``, ``heartbeat_threshold`` and ``poll_seconds``.
    """

    def make_executor(self, megabytes: int) -> ParslExecutor:
        nodes = self._value("nodes", int, 1)
        workers = self._value("cores_per_node", int, 1)
        # What Slurm is asked for follows from what the jobs ask for: fewer workers a node where these need more.
        gigabytes = max(
            self._value("mem_per_node", int) or math.ceil(workers * min(self.memories) / 1024),
            math.ceil(megabytes / 1024),
        )
        options = self._value("scheduler_options", str, "").rstrip()
        name = get_bps_config_value(self.config, "uniqProcName", str, required=True)
        optional = {key: self._value(key, str) or None for key in ("partition", "account", "qos", "constraint")}
        provider = RecordingSlurmProvider(
            record=self.directory / SLURM_JOBS, poll_seconds=self._value("poll_seconds", int, 30),
            nodes_per_block=nodes, cores_per_node=workers, mem_per_node=gigabytes,
            walltime=self._value("walltime", str, "12:00:00"), max_blocks=self._value("max_blocks", int, 1),
            exclusive=self._value("exclusive", bool, False), worker_init=self._value("worker_init", str, ""),
            scheduler_options=f"{options}\n#SBATCH --job-name={name}\n".lstrip(), cmd_timeout=60,
            launcher=SrunLauncher(overrides="-K0 -k --cpu-bind=none") if nodes > 1 else SimpleLauncher(), **optional,
        )  # fmt: skip
        return HighThroughputExecutor(
            self._label(megabytes), provider=provider, address=self.get_address(), mem_per_worker=megabytes / 1024,
            max_workers_per_node=workers, **self._ends(),
        )  # fmt: skip
