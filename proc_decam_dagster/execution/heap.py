"""The C library's heap: an image that is freed makes room for the next one within a quantum, and goes back after it.

glibc returns arrays as large as a CCD to the kernel as soon as they are freed, which then zeroes fresh pages for the
next one: a fifth of a calibration's processor time. With another C library nothing is changed.
"""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h
_LARGEST = 64 * 2**20
"""Arrays that are larger have a mapping of their own still (bytes): in the heap they would leave holes behind."""
_KEPT = 2**30
"""Most that is kept at the end of the heap (bytes)."""


def keep_freed() -> None:
    """Keep freed memory for the arrays that follow."""
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(_MMAP_THRESHOLD, _LARGEST):  # before glibc 2.35 at most 32 MiB, less than a CCD
            mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """Return all that is free to the kernel."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
