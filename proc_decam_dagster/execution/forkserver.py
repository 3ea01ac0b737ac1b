"""The process that workers are forked from: it imports the heavy libraries once, forks on request, reports deaths.

Run as ``python -m proc_decam_dagster.execution.forkserver FD MODULE…``; ``FD`` is a unix socket. The driver sends one
byte with one file descriptor (the worker's end of its pipe) and is answered ``forked PID``; of every worker that ends
it is told ``ended PID STATUS``. When the driver goes, so do all workers. The standard library's forkserver would import
the driver's main module again in every worker, which under Dagster costs seconds and hundreds of megabytes each.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys


def _report_ended(control: socket.socket, children: set[int]) -> None:
    """Reap the children that ended and tell the driver their exit status."""
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        children.discard(pid)
        control.sendall(f"ended {pid} {os.waitstatus_to_exitcode(status)}\n".encode())


def _work(pipe: int) -> None:
    """Be a worker until the driver closes the pipe."""
    from multiprocessing.connection import Connection

    from proc_decam_dagster.execution.worker import serve

    with Connection(pipe) as connection:
        serve(connection)


def serve_forks(control: socket.socket) -> None:
    """Fork workers until the driver closes the socket, then kill those that are left."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    children: set[int] = set()
    try:
        _serve(control, wake_read, wake_write, children)
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _serve(control: socket.socket, wake_read: int, wake_write: int, children: set[int]) -> None:
    """Fork on request and report deaths until the driver closes the socket; ``children`` are those that live."""
    while True:
        ready, _, _ = select.select([control, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
        _report_ended(control, children)
        if control not in ready:
            continue
        data, pipes, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                control.close()
                os.close(wake_read)
                os.close(wake_write)
                _work(pipes[0])
                status = 0
            finally:
                # No exit handlers: they belong to the forkserver's libraries, not to this fork.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        os.close(pipes[0])
        children.add(pid)
        control.sendall(f"forked {pid}\n".encode())


def main() -> None:
    """Import the modules named on the command line, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        # A module that is not there fails in the task that needs it, with the message that belongs to it.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector then leaves the shared pages alone
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve_forks(control)


if __name__ == "__main__":
    main()
