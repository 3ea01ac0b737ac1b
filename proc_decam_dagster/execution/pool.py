"""Warm workers: forked from one process that has imported everything, recycled, and survived when they are killed."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from proc_decam_dagster.cores import default_cores
from proc_decam_dagster.execution.failures import LOST, TIME_LIMIT

if TYPE_CHECKING:
    from proc_decam_dagster.execution.worker import Outcome, Work

PRELOAD = ("proc_decam_dagster.execution.worker", "astropy.table", "astropy.io.fits", "numpy")
"""Modules imported before the first fork."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class PoolStopped(BaseException):
    """Another thread asked the pool to stop: not an `Exception`, so that nothing takes it for a failed quantum."""


@dataclass
class Ended:
    """A task that a worker is through with.

    ``outcome`` is what the worker sent; if it died instead, `None`, and ``cause`` (`LOST` or `TIME_LIMIT`) and
    ``message`` say how.
    """

    work: "Work"
    outcome: "Outcome | None" = None
    cause: str = ""
    message: str = ""
    seconds: float = 0.0


@dataclass(eq=False)
class _Worker:
    pid: int
    connection: Connection
    work: "Work | None" = None
    since: float = 0.0
    deadline: float = float("inf")
    done: int = 0


class WorkerPool:
    """Warm workers for any number of graphs, one after the other; a context manager.

    Nothing is started before `start` or the first task. A worker that is killed or crashes costs one attempt of one
    quantum.

    Parameters
    ----------
    jobs : `int`, optional
        Number of workers; `default_cores` if not given.
    preload : `tuple` [`str`], optional
        More modules to import before the first fork.
    max_quanta : `int`, optional
        A worker is replaced after this many quanta.
    max_memory_mb : `float`, optional
        … or when it keeps more memory than this between two of them (MB).
    """

    def __init__(
        self, jobs: int | None = None, *, preload: tuple[str, ...] = (), max_quanta: int = 1000,
        max_memory_mb: float = 2500.0,
    ) -> None:  # fmt: skip
        self.jobs = max(1, jobs or default_cores())
        self.max_quanta, self.max_memory_mb = max_quanta, max_memory_mb
        self._preload = (*PRELOAD, *preload)
        self._server: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._lines = b""
        self._exit: dict[int, int] = {}
        self._forked: list[int] = []
        self._workers: list[_Worker] = []
        self._stop = threading.Event()

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        return [w.pid for w in self._workers]

    @property
    def busy(self) -> int:
        """Number of tasks under way."""
        return sum(w.work is not None for w in self._workers)

    @property
    def free(self) -> int:
        """Number of tasks that could start at once."""
        return self.jobs - self.busy

    def preload(self, modules: Iterable[str]) -> None:
        """Have modules imported before the first fork; once workers have run it is too late, and of no use."""
        if self._server is None:
            self._preload += tuple(sorted(set(modules) - set(self._preload)))

    def start(self) -> None:
        """Let the imports of the workers begin, while the caller has other things to do before the first task."""
        if self._server is None or self._server.poll() is not None:
            self._start_server()

    def submit(self, work: "Work", time_limit: float | None = None) -> None:
        """Start a task on an idle worker, or on a new one.

        Parameters
        ----------
        work : `Work`
            The quantum to run.
        time_limit : `float`, optional
            Seconds after which its worker is killed.
        """
        while True:
            worker = next((w for w in self._workers if w.work is None), None) or self._fork()
            worker.work, worker.since = work, time.monotonic()  # first, so that an interrupt finds it at work
            worker.deadline = worker.since + (time_limit or float("inf"))
            try:
                worker.connection.send(work)
            except (BrokenPipeError, ConnectionResetError):  # killed while it was idle: take another
                self._drop(worker)
                continue
            return

    def wait(self, timeout: float = 0.5) -> list[Ended]:
        """Return the tasks that ended, after at most ``timeout`` seconds.

        Raises
        ------
        PoolStopped
            If `stop` was called.
        """
        self.check()
        busy = {w.connection: w for w in self._workers if w.work is not None}
        ended = []
        for connection in wait(list(busy), timeout):
            worker = busy.pop(connection)
            seconds = time.monotonic() - worker.since
            try:
                ended.append(Ended(worker.work, connection.recv(), seconds=seconds))
            except (EOFError, OSError):
                ended.append(Ended(worker.work, None, LOST, self._how_it_died(worker), seconds))
                self._drop(worker)
                continue
            worker.work, worker.deadline, worker.done = None, float("inf"), worker.done + 1
            if worker.done >= self.max_quanta or ended[-1].outcome.resident_mb > self.max_memory_mb:
                self._drop(worker)
        now = time.monotonic()
        for worker in busy.values():
            if now > worker.deadline:
                seconds = now - worker.since
                ended.append(Ended(worker.work, None, TIME_LIMIT, f"killed after {seconds:.1f} s", seconds))
                self._kill(worker)
        return ended

    def kill_busy(self) -> "list[Work]":
        """Kill the workers that are at work; return what they were at."""
        busy = [w for w in self._workers if w.work is not None]
        for worker in busy:
            self._kill(worker)
        return [w.work for w in busy]

    def check(self) -> None:
        """Raise `PoolStopped` if `stop` was called."""
        if self._stop.is_set():
            raise PoolStopped

    def stop(self) -> None:
        """Make `wait` raise in the thread that runs the pool; may be called from any thread."""
        self._stop.set()

    def close(self) -> None:
        """End all workers, and the process that they are forked from; another task would start both anew."""
        self.kill_busy()
        for worker in list(self._workers):
            self._drop(worker)
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            try:
                self._server.wait(5)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server = self._control = None

    def _drop(self, worker: _Worker) -> None:
        worker.connection.close()
        self._workers.remove(worker)

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        self._drop(worker)

    def _start_server(self) -> None:
        """Start the process that workers are forked from."""
        ours, theirs = socket.socketpair()
        environment = os.environ | {name: os.environ.get(name, "1") for name in _ONE_THREAD}
        # The background thread that pyarrow's allocator starts would not outlive the fork.
        environment.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
        environment["PYTHONPATH"] = os.pathsep.join(p or os.getcwd() for p in sys.path)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with theirs:
            self._server = subprocess.Popen(
                [
                    sys.executable, "-P", "-m", "proc_decam_dagster.execution.forkserver", str(theirs.fileno()),
                    *self._preload,
                ],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )  # fmt: skip
        self._control, self._lines, self._forked = ours, b"", []

    def _fork(self) -> _Worker:
        """Return a new worker."""
        for attempt in range(2):
            self.start()
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(self._control, [b"f"], [theirs.fileno()])
                pid = self._next_pid()
            except (BrokenPipeError, ConnectionResetError):
                ours.close()
                if attempt:
                    raise
                self._server.kill()
                self._server.wait()
                continue
            worker = _Worker(pid, Connection(ours.detach()))
            self._workers.append(worker)
            return worker
        raise RuntimeError("no worker can be started: the process that forks them dies at once")

    def _listen(self, timeout: float) -> None:
        """Take in what the forking process has to say."""
        if self._control is None or not select.select([self._control], [], [], timeout)[0]:
            return
        data = self._control.recv(65536)
        if not data:
            raise ConnectionResetError("the process that forks workers is gone")
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["forked", pid]:
                    self._forked.append(int(pid))
                case ["ended", pid, status]:
                    self._exit[int(pid)] = int(status)

    def _next_pid(self) -> int:
        while not self._forked:
            self._listen(0.5)
            if self._stop.is_set():
                raise PoolStopped
        return self._forked.pop(0)

    def _how_it_died(self, worker: _Worker) -> str:
        """Return how a worker ended, in words."""
        until = time.monotonic() + 2
        with contextlib.suppress(ConnectionResetError):
            while worker.pid not in self._exit and time.monotonic() < until:
                self._listen(0.1)
        status = self._exit.pop(worker.pid, None)
        if status is None:
            return f"worker {worker.pid} vanished"
        if status < 0:
            name = signal.Signals(-status).name
            cause = ": out of memory, most often" if name == "SIGKILL" else ""
            return f"worker {worker.pid} was killed by {name}{cause}"
        return f"worker {worker.pid} ended with status {status}"
