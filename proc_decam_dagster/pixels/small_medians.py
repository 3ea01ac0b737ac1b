"""Medians of a few values, as compiled kernels call them a million times."""

import numpy as np

from proc_decam_dagster.pixels.jit import jit


@jit
def median(values, n):  # pragma: no cover - compiled
    """Median of the first ``n`` values, which are sorted in place."""
    for k in range(1, n):
        value = values[k]
        i = k - 1
        while i >= 0 and values[i] > value:
            values[i + 1] = values[i]
            i -= 1
        values[i + 1] = value
    return values[n // 2] if n % 2 else np.float32(0.5) * (values[n // 2 - 1] + values[n // 2])


@jit
def _middle_of_nine(p0, p1, p2, p3, p4, p5, p6, p7, p8):  # pragma: no cover - compiled
    """Median of nine by exchanging (Devillard 1998, after Paeth)."""
    p1, p2 = min(p1, p2), max(p1, p2)
    p4, p5 = min(p4, p5), max(p4, p5)
    p7, p8 = min(p7, p8), max(p7, p8)
    p0, p1 = min(p0, p1), max(p0, p1)
    p3, p4 = min(p3, p4), max(p3, p4)
    p6, p7 = min(p6, p7), max(p6, p7)
    p1, p2 = min(p1, p2), max(p1, p2)
    p4, p5 = min(p4, p5), max(p4, p5)
    p7, p8 = min(p7, p8), max(p7, p8)
    p3 = max(p0, p3)
    p5 = min(p5, p8)
    p4, p7 = min(p4, p7), max(p4, p7)
    p6 = max(p3, p6)
    p4 = max(p1, p4)
    p2 = min(p2, p5)
    p4 = min(p4, p7)
    p4, p2 = min(p4, p2), max(p4, p2)
    p4 = max(p6, p4)
    return min(p4, p2)


@jit
def median3(image, y, x):  # pragma: no cover - compiled
    """Median of the 3×3 pixels around one."""
    below, row, above = image[y - 1], image[y], image[y + 1]
    return _middle_of_nine(
        below[x - 1], below[x], below[x + 1], row[x - 1], row[x], row[x + 1], above[x - 1], above[x], above[x + 1]
    )
