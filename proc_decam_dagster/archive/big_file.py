"""A big file written once, past the page cache.

A survey's terabytes would push everything else out of the memory, and a copy into fresh pages costs the processor more
than the file's md5 does.
"""

import errno
import fcntl
import mmap
import os

ALIGNED = 4096
"""Bytes: what goes past the page cache must lie, in memory and in the file, at multiples of the disk's blocks."""
_DIRECT = getattr(os, "O_DIRECT", 0)  # Linux has it


def aligned_buffer(size: int) -> memoryview:
    """Return ``size`` bytes that a `BigFile` can hand to the disk as they are."""
    return memoryview(mmap.mmap(-1, size))


class BigFile:
    """A new file that is written from its start to its end; use as a context manager.

    Parameters
    ----------
    path : `os.PathLike`
        An existing file is emptied.

    Notes
    -----
    Where the file system or a piece's place or length does not allow it (always so for the last piece), the page cache
    is used from there on: the file is the same.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._direct = bool(_DIRECT)
        try:
            self._file = os.open(path, flags | _DIRECT, 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._direct = False
            self._file = os.open(path, flags, 0o666)

    def __enter__(self) -> "BigFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write(self, piece: bytes | memoryview) -> None:
        """Write a whole piece; the ones before the last should be multiples of `ALIGNED` of an `aligned_buffer`."""
        left = memoryview(piece)
        while left:  # a disk that is nearly full takes a part, then refuses
            if self._direct and len(left) % ALIGNED:
                self._use_cache()
            try:
                left = left[os.write(self._file, left) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._use_cache()

    def sync(self) -> None:
        """Return when all of it is on the disk."""
        os.fsync(self._file)

    def _use_cache(self) -> None:
        fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) & ~_DIRECT)
        self._direct = False
