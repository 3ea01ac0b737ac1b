"""The machine's memory, shared out among quanta that run at the same time in any thread of this process."""

import os
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

GROWTH = 2.0
"""What a quantum that ran out of memory is given more of, the next time."""
_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_memory_mb() -> float:
    """Return the memory that this machine, or the container that we are in, has (MB)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP:
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):  # no such control group, or one without a limit
            continue
    return total / 2**20


class MemoryBudget:
    """Memory that quanta reserve before they start; graphs that wait for some are served in turn, so none starves.

    Parameters
    ----------
    total_mb : `float`
        What there is (MB).
    """

    def __init__(self, total_mb: float) -> None:
        self.total_mb = total_mb
        self._lock = threading.Lock()
        self._reserved: dict[Hashable, float] = {}
        self._waiting: list[Hashable] = []
        self._workers = 0

    @contextmanager
    def workers(self, number: int) -> Iterator[None]:
        """Count a pool's workers in while it runs a graph."""
        with self._lock:
            self._workers += number
        try:
            yield
        finally:
            with self._lock:
                self._workers -= number

    @property
    def share_mb(self) -> float:
        """What one worker may take while all are at work, or all cores were (MB)."""
        return self.total_mb / max(self._workers, os.cpu_count() or 1)

    def reserve(self, who: Hashable, memory_mb: float, graph: Hashable) -> bool:
        """Reserve memory for a quantum if there is enough; otherwise its graph is the next to get any."""
        with self._lock:
            first = not self._waiting or self._waiting[0] == graph
            # Alone on the machine, a quantum may take more than there is: it fails, or it does not.
            fits = not self._reserved or sum(self._reserved.values()) + memory_mb <= self.total_mb * 1.001
            if first and fits:
                self._waiting = [w for w in self._waiting if w != graph]
                self._reserved[who] = memory_mb
                return True
            if graph not in self._waiting:
                self._waiting.append(graph)
            return False

    def release(self, who: Hashable) -> None:
        """Give back what was reserved for a quantum."""
        with self._lock:
            self._reserved.pop(who, None)

    def leave(self, graph: Hashable) -> None:
        """Wait no more."""
        with self._lock:
            self._waiting = [w for w in self._waiting if w != graph]


MACHINE = MemoryBudget(machine_memory_mb())
