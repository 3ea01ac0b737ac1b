"""Mask planes: the one table of their bits and meanings."""

import numpy as np

from proc_decam_dagster.pixels.jit import jit

PLANES = {
    "BAD": "known defect of the detector",
    "SAT": "saturated, or bled into",
    "CR": "hit by a cosmic ray",
    "EDGE": "too close to an edge to be trusted",
    "NODATA": "no input reached this pixel",
    "INTERP": "value interpolated from its neighbours",
    "SUSPECT": "suspect: near saturation, or in the suspect mask",
    "DETECTED": "part of a detected source",
    "DETECTED_NEGATIVE": "part of a negative detection in a difference",
    "CROSSTALK": "received crosstalk of a bright pixel",
    "INJECTED": "synthetic source injected",
    "CLIPPED": "an input was clipped here in the coadd",
    "STREAK": "in the trail of a satellite or an aircraft",
}
BIT = {name: 1 << number for number, name in enumerate(PLANES)}

BAD, SAT, CR, EDGE, NODATA, INTERP, SUSPECT, DETECTED, DETECTED_NEGATIVE, CROSSTALK, INJECTED, CLIPPED, STREAK = (
    BIT.values()
)

UNUSABLE = BAD | SAT | CR | EDGE | NODATA | STREAK
"""Pixels that no measurement uses."""
HUGE = np.float32(3e38)
"""What is not smaller is no value: kernels compare with it, which also tells NaN and becomes vector instructions."""


@jit
def _count(mask, bits):  # pragma: no cover - compiled
    count = 0
    for y in range(mask.shape[0]):
        row = mask[y]
        for x in range(len(row)):
            count += np.int32(1) if (row[x] & bits) != 0 else np.int32(0)
    return count


@jit
def _mark_unusable(image, variance, mask, bits, out):  # pragma: no cover - compiled
    for y in range(mask.shape[0]):
        values, errors, flags, row = image[y], variance[y], mask[y], out[y]
        for x in range(len(row)):
            known = (abs(values[x]) < HUGE) & (errors[x] < HUGE) & (errors[x] > 0)
            row[x] = ((flags[x] & bits) != 0) | (not known)


def unusable(image: np.ndarray, variance: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return which pixels are masked as `UNUSABLE`, or have no finite value or no finite, positive variance."""
    out = np.empty(mask.shape, np.bool_)
    _mark_unusable(image, variance, mask, np.int32(UNUSABLE), out)
    return out


@jit
def _grow(flags, radius, out):  # pragma: no cover - compiled
    ny, nx = flags.shape
    for y in range(ny):
        row, any_set = flags[y], False
        for x in range(nx):
            any_set |= row[x]
        if not any_set:
            continue
        for x in range(nx):
            if row[x]:
                for v in range(max(y - radius, 0), min(y + radius + 1, ny)):
                    reach = radius - abs(v - y)
                    out[v, max(x - reach, 0) : x + reach + 1] = True


def grown(flags: np.ndarray, radius: int) -> np.ndarray:
    """Return a boolean image, (ny, nx), whose set pixels are grown by ``radius`` steps along rows and columns."""
    out = flags.copy()
    _grow(flags, radius, out)
    return out


def fraction(mask: np.ndarray, bits: int) -> float:
    """Return the fraction of the pixels of an integer mask, (ny, nx), with any of ``bits`` set; NaN of no pixel."""
    return _count(mask, bits) / mask.size if mask.size else float("nan")


def extent(good: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (x0, y0, x1, y1), half-open, that holds the set pixels of a boolean image; all of it if none is.

    What a PSF or kernel model says outside the pixels it was made of means nothing.
    """
    x, y = np.flatnonzero(good.any(0)), np.flatnonzero(good.any(1))
    if not len(x):
        return 0, 0, good.shape[1], good.shape[0]
    return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1
