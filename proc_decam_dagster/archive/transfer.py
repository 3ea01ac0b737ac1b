"""One file over HTTP onto disk: whole and verified under its name, or not there at all."""

import errno
import fcntl
import hashlib
import http.client
import os
import shutil
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from proc_decam_dagster.archive.big_file import BigFile, aligned_buffer
from proc_decam_dagster.archive.errors import Cancelled, ChecksumMismatch, DiskFull, TransferFailed

CHUNK = 1 << 20
"""Bytes that are read, hashed and written at a time; a file that has more goes past the page cache."""
SPACE_MARGIN = 64 << 20
"""Bytes that are left free on a disk whatever happens, so that states and databases beside the files can be written."""
LARGEST = 32 << 30
"""Bytes that no file of the archive has: an answer that announces more is mistaken, and says nothing of the disk."""
SLOW_SECONDS, SLOW_BYTES = 120.0, 64 << 10
"""A transfer that brings less than so many bytes in so many seconds counts as stalled, though it never stands still."""
LOCK_NAME = ".downloading.lock"


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


class FolderLock:
    """Which files of a folder are being fetched, over all processes: no two write the same one.

    Parameters
    ----------
    folder : `os.PathLike`
        An existing folder. Each file is one byte of a lock file in it; the system gives up the locks of a process
        that ends, however it ends.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self._file = open(Path(folder) / LOCK_NAME, "a+b")  # noqa: SIM115 - kept open as long as this lives

    @contextmanager
    def hold(self, md5: str, stop: Callable[[], bool], pause: float = 0.25) -> Iterator[None]:
        """Hold a file while it is fetched; waits for another process that fetches it.

        Raises
        ------
        Cancelled
            If ``stop`` says so meanwhile.
        """
        place = int(md5[:15], 16)
        while not self._set(fcntl.F_WRLCK, place):
            if stop():
                raise Cancelled("the transfer was stopped")
            time.sleep(pause)
        try:
            yield
        finally:
            self._set(fcntl.F_UNLCK, place)

    def _set(self, kind: int, place: int) -> bool:
        command = getattr(fcntl, "F_OFD_SETLK", None)  # also keeps threads apart; Linux alone has it
        if command is None or sys.platform != "linux":
            return True
        try:
            fcntl.fcntl(self._file, command, struct.pack("hhqqi0q", kind, os.SEEK_SET, place, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            # A file system without locks: files are fetched all the same.
        return True

    def close(self) -> None:
        """Give up all locks."""
        self._file.close()


def write_body(
    response,
    path: str | os.PathLike,
    *,
    md5: str | None = None,
    space: SpaceGuard | None = None,
    stop: threading.Event | None = None,
    on_bytes: Callable[[int], None] | None = None,
    on_size: Callable[[int | None], None] | None = None,
    aside: str | os.PathLike | None = None,
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
    on_bytes, on_size : callable, optional
        Told the length of each chunk, and before the first one that of the whole, as far as it is announced.
    aside : `os.PathLike`, optional
        Where a file goes that came whole and has another md5.

    Raises
    ------
    TransferFailed, ChecksumMismatch, DiskFull, Cancelled
        And nothing is left on disk but ``aside``.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    announced = _content_length(response)
    if announced is not None and announced > LARGEST:
        raise TransferFailed(f"{path.name} is announced with {announced} bytes", f"at most {LARGEST}", "run again")
    if on_size:
        on_size(announced)
    space = space or SpaceGuard(path.parent)
    digest, count = hashlib.md5(usedforsecurity=False), 0
    with space.reserve(announced, path.name) as written:
        try:
            with BigFile(partial) as out:
                for chunk in _chunks(response, path.name, announced):
                    if stop is not None and stop.is_set():
                        raise Cancelled(f"{path.name} was stopped")
                    out.write(chunk)
                    digest.update(chunk)
                    count += len(chunk)
                    written(len(chunk))
                    if on_bytes:
                        on_bytes(len(chunk))
                if announced is None and stop is not None and stop.is_set():  # an end that we may have made ourselves
                    raise Cancelled(f"{path.name} was stopped")
                if announced is not None and count != announced:
                    raise TransferFailed(f"{path.name} broke off after {count} bytes", f"{announced}", "run again")
                if md5 is not None and digest.hexdigest() != md5:
                    if aside is not None:
                        os.replace(partial, aside)
                    raise ChecksumMismatch(
                        f"{path.name} has md5 {digest.hexdigest()}",
                        digest.hexdigest(),
                        md5,
                        "the archive sent other bytes than it lists; run again later, or leave the exposure out",
                    )
                out.sync()
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


def sync_folder(folder: str | os.PathLike) -> None:
    """Make the names in a folder as durable as the files themselves."""
    with suppress(OSError):  # some network file systems cannot, and need not
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _content_length(response) -> int | None:
    # With a Content-Encoding the length is that of the encoded bytes, which are not the ones that we count.
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdigit() else None


def _chunks(response, name: str, announced: int | None) -> Iterator[memoryview | bytes]:
    """Yield the body in pieces, each of which is overwritten by the next one."""
    import requests
    import urllib3

    pace = _Pace(name)
    try:
        source = _plain_source(response, announced)
        if source is None:
            for chunk in response.iter_content(CHUNK):
                pace.came(len(chunk))
                yield chunk
            return
        # Straight into one buffer, as bytes come: of a big file, nothing but this is ever held.
        buffer, left = aligned_buffer(CHUNK), announced
        while left:
            filled = 0
            while filled < min(CHUNK, left):
                came = source.readinto1(buffer[filled : min(CHUNK, left)])
                if not came:
                    break
                filled += came
                pace.came(came)
            if not filled:
                return
            left -= filled
            yield buffer[:filled]
            if filled < CHUNK and left:
                return
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        raise TransferFailed(f"{name} broke off ({error})", fix="run again") from None
    except TimeoutError:
        raise TransferFailed(f"{name} stalled: nothing came for a long time", fix="run again") from None
    except (ConnectionError, ssl.SSLError) as error:
        raise TransferFailed(f"{name} broke off ({error.strerror or error})", fix="run again") from None


def _plain_source(response, announced: int | None):
    """Return the stream below a body that is big and sent as it is stored; `None` for all others."""
    answer = getattr(response.raw, "_fp", None)
    stream = getattr(answer, "fp", None)
    plain = isinstance(answer, http.client.HTTPResponse) and not answer.chunked and answer.length == announced
    return stream if plain and announced and announced > CHUNK and hasattr(stream, "readinto1") else None


class _Pace:
    """Ends a transfer that trickles: a server that sends a byte a minute would hold us for years."""

    def __init__(self, name: str) -> None:
        self.name, self.count, self.since = name, 0, time.monotonic()

    def came(self, count: int) -> None:
        self.count += count
        now = time.monotonic()
        if now - self.since > SLOW_SECONDS:
            if self.count < SLOW_BYTES:
                raise TransferFailed(
                    f"{self.name} stalled: {self.count} bytes in {now - self.since:.0f} s", fix="run again"
                )
            self.count, self.since = 0, now


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
