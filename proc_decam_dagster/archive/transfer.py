"""One file over HTTP onto disk: whole and verified under its name, or not there at all."""

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proc_decam_dagster.archive.errors import Cancelled, ChecksumMismatch, DiskFull, TransferFailed

CHUNK = 1 << 20
SPACE_MARGIN = 64 << 20
"""Bytes that are left free on a disk whatever happens, so that states and databases beside the files can be written."""


@dataclass(frozen=True)
class Transfer:
    """What arrived: the file's path, its length in bytes and its md5."""

    path: Path
    bytes: int
    md5: str


class SpaceGuard:
    """Refuses files that do not fit, counting those that other threads are writing to the same disk.

    Parameters
    ----------
    directory : `os.PathLike`
        An existing folder on the disk.
    margin : `int`
        Bytes to leave free.
    """

    def __init__(self, directory: str | os.PathLike, margin: int = SPACE_MARGIN) -> None:
        self.directory, self.margin = Path(directory), margin
        self._pending = 0
        self._lock = threading.Lock()

    @contextmanager
    def reserve(self, size: int | None, what: str) -> Iterator[Callable[[int], None]]:
        """Hold ``size`` bytes while a file is written; call the value with the bytes that are on disk by now.

        Raises
        ------
        DiskFull
            If they are not free.
        """
        pending = size or 0
        with self._lock:
            free = shutil.disk_usage(self.directory).free
            if free - self._pending < pending + self.margin:
                raise DiskFull(
                    f"no disk space for {what}: {_mb(max(free - self._pending, 0))} free in {self.directory}",
                    f"{_mb(pending + self.margin)}",
                    "free some, or give another --download-dir, and run again",
                )
            self._pending += pending

        def written(count: int) -> None:
            nonlocal pending
            done = min(count, pending)
            with self._lock:
                self._pending -= done
                pending -= done

        try:
            yield written
        finally:
            written(pending)


def write_body(
    response,
    path: str | os.PathLike,
    *,
    md5: str | None = None,
    space: SpaceGuard | None = None,
    stop: threading.Event | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Transfer:
    """Write the body of an open streaming response; the final name appears only when everything was right.

    Parameters
    ----------
    response : `requests.Response`
        Opened with ``stream=True``, status 200.
    path : `os.PathLike`
        The final name; bytes go to ``<path>.part`` first, which is removed when anything fails.
    md5 : `str`, optional
        What the bytes must hash to.
    space : `SpaceGuard`, optional
        Asked before the first byte is written.
    stop : `threading.Event`, optional
        Ends the transfer when set.
    on_bytes : callable, optional
        Told the length of each chunk.

    Raises
    ------
    TransferFailed, ChecksumMismatch, DiskFull, Cancelled
        And nothing is left on disk.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    announced = _content_length(response)
    space = space or SpaceGuard(path.parent)
    digest, count = hashlib.md5(usedforsecurity=False), 0
    with space.reserve(announced, path.name) as written:
        try:
            with open(partial, "wb") as out:
                for chunk in _chunks(response, path.name):
                    if stop is not None and stop.is_set():
                        raise Cancelled(f"{path.name} was stopped")
                    out.write(chunk)
                    digest.update(chunk)
                    count += len(chunk)
                    written(len(chunk))
                    if on_bytes:
                        on_bytes(len(chunk))
                if announced is not None and count != announced:
                    raise TransferFailed(f"{path.name} broke off after {count} bytes", f"{announced}", "run again")
                if md5 is not None and digest.hexdigest() != md5:
                    raise ChecksumMismatch(
                        f"{path.name} has md5 {digest.hexdigest()}",
                        digest.hexdigest(),
                        md5,
                        "the archive sent other bytes than it lists; run again later, or leave the exposure out",
                    )
                out.flush()
                os.fsync(out.fileno())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"no disk space for {path.name} in {path.parent}", fix="free some and run again"
                ) from None
            raise
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return Transfer(path, count, digest.hexdigest())


def md5_of(path: str | os.PathLike) -> str:
    """Return the md5 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _content_length(response) -> int | None:
    # With a Content-Encoding the length is that of the encoded bytes, which are not the ones that we count.
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdigit() else None


def _chunks(response, name: str) -> Iterator[bytes]:
    import requests

    try:
        yield from response.iter_content(CHUNK)
    except requests.RequestException as error:
        raise TransferFailed(f"{name} broke off ({error})", fix="run again") from None


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
