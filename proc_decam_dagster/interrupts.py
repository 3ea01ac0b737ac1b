"""Ctrl-C and SIGTERM: both stop a step the same way, and neither may cut the registration of outputs in two.

And SIGKILL, after which the kernel ends what must not outlive the process that was killed.
"""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM (systemd, Slurm, a container that stops) into `KeyboardInterrupt`, so that work is put in order.

    A handler that the program has installed itself stays.
    """
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is through."""
    if not _in_main_thread():  # only the main thread is interrupted
        yield
        return
    pending: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not None:
            signal.signal(number, lambda received, _: pending.append(received))
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends, however that ends (Linux, `prctl(2)`)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
