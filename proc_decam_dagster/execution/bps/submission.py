"""One submission: its directory, the process that stands behind it, whether that lives, and how it is ended."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.bps import slurm
from proc_decam_dagster.execution.bps.configuration import FILE_NAME, workflow_environment

CONFIG = f"bps_{FILE_NAME}"
PROCESS, ENDED, LOCK, LOG, RECORDS = "process.json", "ended.json", "process.lock", "process.log", "records"
SLURM_JOBS = "slurm_jobs"
"""File with the ids of the Slurm jobs that were submitted, one a line; `sites` writes it."""
_MARK = "PROC_DECAM_SUBMISSION"
"""Environment variable that says of a process which submission it belongs to."""
_TERM_SECONDS = 20.0


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file holds; nothing if there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a file that is there as a whole or not at all, and survives a power cut."""
    partial = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
    with partial.open("w") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def boot_id() -> str:
    """Return what tells this boot of this machine from every other; empty where the system does not say."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def take_lock(directory: Path) -> int | None:
    """Lock a submission; return the descriptor, or `None` if a process holds it."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


class Submission:
    """A submit directory and what was made of it.

    Parameters
    ----------
    directory : `pathlib.Path`
        The submit directory; the configuration stands in it already.
    name : `str`
        Name of the workflow, and of its Slurm jobs.
    batch : `dict`, optional
        If given, the process runs in a Slurm job of its own: ``options`` (lines of ``#SBATCH``), ``worker_init``.
    """

    def __init__(self, directory: Path, name: str, batch: dict[str, str] | None = None) -> None:
        self.directory, self.name, self.batch = directory, name, batch

    @property
    def records(self) -> Path:
        """Folder of what the jobs write of their quanta."""
        return self.directory / RECORDS

    @property
    def poll_seconds(self) -> float:
        """How often to look whether it lives: Slurm is not to be asked more often than this (s)."""
        return 0.5 if self.batch is None else 5.0

    @property
    def driver_name(self) -> str:
        """Name of the Slurm job that the process runs in."""
        return f"{self.name}_driver"

    def start(self) -> None:
        """Start the process, detached: neither Ctrl-C nor the end of this program ends it."""
        command = [sys.executable, "-m", "proc_decam_dagster.execution.bps.process", str(self.directory)]
        if self.batch is not None:
            script = slurm.write_script(
                self.directory / "driver.sh", command, name=self.driver_name, output=self.directory / LOG,
                options=self.batch.get("options", ""), init=self.batch.get("worker_init", ""),
                folder=self.directory,  # Parsl's launchers write their scripts where they stand
            )  # fmt: skip
            slurm.submit(script, self._environment())
            return
        lock = take_lock(self.directory)
        if lock is None:
            raise SurveyError(f"another process runs {self.directory}", fix="wait for it, or cancel it")
        try:
            # Locked before it is there: were this program killed now, the next one would find the process.
            with (self.directory / LOG).open("ab") as log:
                subprocess.Popen(
                    [*command, "--lock", str(lock)], pass_fds=[lock], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=self._environment(), start_new_session=True, cwd=self.directory,
                )  # fmt: skip
        finally:
            os.close(lock)

    def alive(self) -> bool:
        """Whether the process lives, or its Slurm job waits or runs."""
        if self.batch is not None and slurm.in_queue(name=self.driver_name):
            return True
        lock = take_lock(self.directory)
        if lock is None:
            return True
        os.close(lock)
        return False

    def seems_alive(self) -> bool:
        """Whether it is under way, as far as can be told at once: Slurm, which may not answer, is not asked."""
        if self.batch is not None:
            return not (self.directory / ENDED).exists()
        with suppress(OSError):  # one who may only read
            lock = take_lock(self.directory)
            if lock is None:
                return True
            os.close(lock)
        return False

    def revive(self) -> bool:
        """Start a process that died while another system runs the workflow for it; return whether there was one."""
        if not read_json(self.directory / PROCESS).get("run_id") or (self.directory / ENDED).exists():
            return False
        self.start()
        return True

    def _environment(self) -> dict[str, str]:
        return workflow_environment() | {_MARK: str(self.directory)}

    def failed(self) -> bool:
        """Whether the process was killed, or ended with an error."""
        ended = read_json(self.directory / ENDED)
        return not ended or bool(ended["error"])

    def error(self) -> str:
        """Return what the process failed with; empty if it did not, or was killed."""
        return read_json(self.directory / ENDED).get("error", "")

    def last_words(self) -> str:
        """Return the last line that a job wrote on stderr, that Parsl or the process wrote: most often the cause."""
        parsl = "parsl/*/parsl.log"
        logs = (("bps/logs/**/*.stderr", ""), (parsl, " STDERR:"), (parsl, " ERROR: "), (LOG, ""))
        for pattern, mark in logs:
            for path in self.directory.glob(pattern):
                if lines := [x for x in path.read_text(errors="replace").splitlines() if x.strip() and mark in x]:
                    return lines[-1].rpartition(mark)[2] if mark else lines[-1]
        return "nobody says why"

    def stop(self) -> None:
        """End the process, first asking it to, and what it has started here and in Slurm."""
        if self.batch is not None:
            slurm.cancel(slurm.in_queue(name=self.driver_name))
        process = read_json(self.directory / PROCESS)
        if run_id := process.get("run_id"):
            from lsst.ctrl.bps.cancel import cancel

            cancel(process["service"], run_id, require_bps=False)
        if self._is_here(process) and self.alive():
            with suppress(ProcessLookupError):
                os.kill(process["pid"], signal.SIGTERM)
            until = time.monotonic() + _TERM_SECONDS
            while self.alive() and time.monotonic() < until:
                time.sleep(0.2)
        self.clean_up()
        if self.alive() and not self._is_here(process):
            host = process.get("host", "another machine")
            raise SurveyError(f"the process of {self.name} runs on {host}", fix="give the same command there")

    def clean_up(self) -> None:
        """End what a process that is gone has left: its children here, its jobs in Slurm."""
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(FileNotFoundError):
            slurm.cancel((self.directory / SLURM_JOBS).read_text().split())

    def _processes(self) -> Iterator[int]:
        """Yield the processes on this machine that descend from the submission's: its environment tells them."""
        mark = f"{_MARK}={self.directory}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)

    @staticmethod
    def _is_here(process: dict[str, Any]) -> bool:
        return process.get("host") == socket.gethostname() and process.get("boot") == boot_id()
