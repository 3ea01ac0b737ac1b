"""How far a download is: each file that is in the air, and all of them together, with rate and time left."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_SECONDS = 30.0


@dataclass
class Active:
    """A file that is being fetched; ``size`` is 0 as long as the archive has not told it."""

    name: str
    size: int = 0
    bytes: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Bytes a second since it began."""
        return self.bytes / max(time.monotonic() - self.since, 1e-3)


@dataclass(frozen=True)
class Snapshot:
    """A download at one moment.

    Attributes
    ----------
    files, total : `int`
        Files of which the outcome is known, and all.
    bytes, expected : `int`
        Bytes that came in this run, and how many it will be as far as can be told; 0 if it cannot.
    rate : `float`
        Bytes a second, of the last half minute.
    eta : `float` or `None`
        Seconds left.
    active : `list` [`Active`]
    """

    files: int
    total: int
    bytes: int
    expected: int
    rate: float
    eta: float | None
    active: list[Active]


class Meter:
    """Counts what comes, in all threads.

    Parameters
    ----------
    total : `int`
        Files of the download.
    expected : callable
        Given the mean size of the files that came so far (0: none did), the bytes that are still to come.
    """

    def __init__(self, total: int, expected: Callable[[float], float]) -> None:
        self.total, self.expected = total, expected
        self.files = self.bytes = self._whole = self._whole_bytes = 0
        self._active: dict[str, Active] = {}
        self._lock = threading.Lock()
        self._past: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def start(self, md5: str, name: str) -> None:
        """A file's transfer begins, or begins again: what came of it before is lost."""
        with self._lock:
            self._active[md5] = Active(name)

    def sized(self, md5: str, size: int | None) -> None:
        """Its length is known."""
        with self._lock:
            self._active[md5].size = size or 0

    def came(self, md5: str, count: int) -> None:
        """Some of it came."""
        with self._lock:
            self._active[md5].bytes += count
            self.bytes += count

    def end(self, md5: str, size: int = 0) -> None:
        """Its transfer is over; ``size`` bytes of it are on disk."""
        with self._lock:
            self._active.pop(md5, None)
            if size:
                self._whole += 1
                self._whole_bytes += size

    def snapshot(self) -> Snapshot:
        """Return how far it is."""
        now = time.monotonic()
        with self._lock:
            self._past.append((now, self.bytes))
            while len(self._past) > 2 and now - self._past[1][0] > WINDOW_SECONDS:
                self._past.popleft()
            active = [Active(a.name, a.size, a.bytes, a.since) for a in self._active.values()]
            mean = self._whole_bytes / self._whole if self._whole else 0.0
            came = self.bytes
        seconds = now - self._past[0][0]
        rate = (came - self._past[0][1]) / seconds if seconds > 0 else 0.0
        left = max(self.expected(mean) - sum(a.bytes for a in active), 0.0)
        known = left > 0 or self.files == self.total
        return Snapshot(
            self.files, self.total, came, round(came + left) if known else 0, rate,
            left / rate if known and rate > 0 else None, active,
        )  # fmt: skip
