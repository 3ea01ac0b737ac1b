"""The process that workers are forked from: when its driver goes, so do all workers."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest


@pytest.fixture
def server():
    """The process, and the driver's end of its socket."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "proc_decam_dagster.execution.forkserver", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL)
    theirs.close()
    yield process, ours
    process.kill()
    process.wait()


def fork(control: socket.socket) -> tuple[int, socket.socket]:
    """Ask for a worker; return its process, and the driver's end of its pipe."""
    ours, theirs = socket.socketpair()
    socket.send_fds(control, [b"f"], [theirs.fileno()])
    theirs.close()
    word, pid = control.recv(64).split()
    assert word == b"forked"
    return int(pid), ours


def is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_worker_outlives_a_driver_that_goes_while_another_worker_dies(server):
    process, control = server
    (first, pipe), (second, other) = fork(control), fork(control)
    process.send_signal(signal.SIGSTOP)  # so that it sees both at once
    os.kill(first, signal.SIGKILL)
    control.close()
    process.send_signal(signal.SIGCONT)
    process.wait(20)
    until = time.monotonic() + 20
    while is_there(second) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(first) and not is_there(second)
    pipe.close()
    other.close()
