"""A driver's journal: each attempt written down when it begins and when it ends, so that no kill can lose one.

A line costs some microseconds, where a row in a database costs milliseconds; the rows follow in batches. A journal
belongs to a living driver as long as its lock is held: the kernel frees it when the process ends, however it ends.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proc_decam_dagster.execution import failures
from proc_decam_dagster.execution.attempts import LOST, Attempt

SUFFIX = ".jsonl"
SYNC_SECONDS = 5.0
"""What a power cut may cost; a kill of the driver costs nothing."""


class Journal:
    """The journal of one graph's run; a context manager.

    Parameters
    ----------
    folder : `pathlib.Path`
        Folder of all journals.
    chain, run, step, backend : `str`
        What all its attempts have in common.
    """

    def __init__(self, folder: Path, *, chain: str, run: str, step: str, backend: str) -> None:
        self._common = {"chain": chain, "run": run, "step": step, "backend": backend, "host": socket.gethostname()}
        self.path = folder / (run.replace("/", "__") + SUFFIX)
        folder.mkdir(parents=True, exist_ok=True)
        made = self.path.with_suffix(f".{os.getpid()}")
        self._file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o664)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._count = 0
        self._under_way: dict[str, Attempt] = {}
        self._settled: list[Attempt] = []
        self._synced = time.monotonic()
        try:
            self._write({"driver": {**self._common, "pid": os.getpid(), "since": time.time()}})
            made.rename(self.path)  # only now, locked, may others find it
        except OSError:
            os.close(self._file)
            made.unlink()
            raise

    def begin(self, task: str, data_id: str, memory_mb: float = 0.0) -> str:
        """Note that a quantum is about to be run; return the attempt's key.

        Raises
        ------
        OSError
            If it cannot be written down: then the quantum must not be run.
        """
        self._count += 1
        key = f"{self._common['run']}#{self._count}"
        attempt = Attempt(
            task, data_id, time.time(), 0.0, 0.0, 0.0, LOST, failures.LOST,
            f"its driver, process {os.getpid()} on {self._common['host']}, ended before it", True,
            memory_requested_mb=memory_mb, key=key, **self._common,
        )  # fmt: skip
        self._write({"begin": asdict(attempt)})
        self._under_way[key] = attempt
        return key

    def end(self, key: str, **outcome: object) -> Attempt:
        """Note how an attempt ended, with fields of `Attempt`; return it."""
        begun = self._under_way.pop(key)
        attempt = Attempt(**(asdict(begun) | {"exception": "", "message": "", "transient": False} | outcome))
        self._settled.append(attempt)
        # On a disk that is full meanwhile the attempt stays `lost` for the next driver; this one knows better.
        with suppress(OSError):
            self._write({"end": asdict(attempt)})
        return attempt

    @property
    def under_way(self) -> list[str]:
        """Keys of the attempts that have begun and not ended."""
        return list(self._under_way)

    def take(self) -> list[Attempt]:
        """Return the attempts that have ended and were not yet given to the ledger."""
        return list(self._settled)

    def taken(self, attempts: Iterable[Attempt]) -> None:
        """Forget attempts that the ledger has now."""
        keys = {a.key for a in attempts}
        self._settled = [a for a in self._settled if a.key not in keys]

    def close(self) -> None:
        """Delete the journal if the ledger has all that stands in it; else leave it to the next driver."""
        if self._file < 0:
            return
        if not self._settled and not self._under_way:
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = -1

    def _write(self, line: dict) -> None:
        # The line break goes first: a line that a full disk has cut then spoils no other.
        text = b"\n" + json.dumps(line).encode()
        if os.write(self._file, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fdatasync(self._file)
            self._synced = time.monotonic()


@dataclass
class Left:
    """What stands in a journal: ``driver`` says whose it is, ``ended`` and ``lost`` are its attempts."""

    driver: dict = field(default_factory=dict)
    ended: dict[str, Attempt] = field(default_factory=dict)
    begun: dict[str, Attempt] = field(default_factory=dict)

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts; those that have no end are `LOST`."""
        return [self.ended.get(key, attempt) for key, attempt in self.begun.items()]

    @property
    def under_way(self) -> list[Attempt]:
        """Those that have no end."""
        return [attempt for key, attempt in self.begun.items() if key not in self.ended]


def read_journal(path: Path) -> Left:
    """Read a journal; a line that a kill or a full disk has cut counts as not written."""
    left = Left()
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "driver" in entry:
            left.driver = entry["driver"]
        for kind, where in (("begin", left.begun), ("end", left.ended)):
            if kind in entry:
                attempt = Attempt(**entry[kind])
                where[attempt.key] = attempt
    return left


def journals(folder: Path) -> list[Path]:
    """Return all journals of a folder, the oldest first."""
    return sorted(folder.glob("*" + SUFFIX), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []


def living(folder: Path) -> list[Left]:
    """Return the journals whose drivers live: what is being run at the moment."""
    found = []
    for path in journals(folder):
        with suppress(FileNotFoundError), open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(read_journal(path))
    return found
