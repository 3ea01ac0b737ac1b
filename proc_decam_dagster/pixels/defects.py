"""Defects of a detector: boxes painted into a mask, and pixels without a value filled from their neighbours."""

from typing import Any

import numpy as np

from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.mask import INTERP


@jit
def _paint(mask, x0, y0, width, height, bits):  # pragma: no cover - compiled
    ny, nx = mask.shape
    for k in range(len(x0)):
        for y in range(max(y0[k], 0), min(y0[k] + height[k], ny)):
            for x in range(max(x0[k], 0), min(x0[k] + width[k], nx)):
                mask[y, x] |= bits


def paint_boxes(mask: np.ndarray, boxes: Any, bits: int) -> None:
    """Set mask bits within boxes, in place; parts of boxes outside the image are left out.

    Parameters
    ----------
    mask : `numpy.ndarray`, (ny, nx), int32
    boxes : `astropy.table.Table` or mapping
        Integer columns ``x0, y0, width, height`` in pixels of the trimmed image.
    bits : `int`
    """
    columns = [np.ascontiguousarray(boxes[name], np.int64) for name in ("x0", "y0", "width", "height")]
    _paint(mask, *columns, np.int32(bits))


@jit
def _flagged(mask, bits):  # pragma: no cover - compiled
    """Return the rows and columns of the pixels with any of some bits."""
    count = 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            count += np.int64((mask[y, x] & bits) != 0)
    ys, xs = np.empty(count, np.int64), np.empty(count, np.int64)
    k = 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if (mask[y, x] & bits) != 0:
                ys[k], xs[k] = y, x
                k += 1
    return ys, xs


@jit
def _axis_value(image, mask, unusable, y, x, dy, dx, reach):  # pragma: no cover - compiled
    """Interpolate along one axis; return (value, length of the gap), gap 0 where either side has no good pixel."""
    ny, nx = image.shape
    before = 0
    after = 0
    for step in range(1, reach + 1):
        v, u = y - step * dy, x - step * dx
        if before == 0 and v >= 0 and u >= 0 and (mask[v, u] & unusable) == 0:
            before = step
        v, u = y + step * dy, x + step * dx
        if after == 0 and v < ny and u < nx and (mask[v, u] & unusable) == 0:
            after = step
        if before and after:
            break
    if before == 0 or after == 0:
        return np.float32(0), 0
    left = image[y - before * dy, x - before * dx]
    right = image[y + after * dy, x + after * dx]
    if before == 1 and after == 1 and min(y - 2 * dy, x - 2 * dx) >= 0 and y + 2 * dy < ny and x + 2 * dx < nx:
        far_left, far_right = mask[y - 2 * dy, x - 2 * dx], mask[y + 2 * dy, x + 2 * dx]
        if ((far_left | far_right) & unusable) == 0:  # cubic: exact on the curvature of a star's core
            outer = image[y - 2 * dy, x - 2 * dx] + image[y + 2 * dy, x + 2 * dx]
            return (4 * (left + right) - outer) / np.float32(6), 2
    return (left * after + right * before) / (before + after), before + after


@jit
def _fill(image, variance, mask, ys, xs, unusable, reach, values, variances):  # pragma: no cover - compiled
    for k in range(len(ys)):
        total = np.float32(0)
        noise = np.float32(0)
        weight = np.float32(0)
        for axis in range(2):
            value, gap = _axis_value(image, mask, unusable, ys[k], xs[k], axis, 1 - axis, reach)
            if gap:
                w = np.float32(1) / (gap * gap)
                total += w * value
                noise += w * _axis_value(variance, mask, unusable, ys[k], xs[k], axis, 1 - axis, reach)[0]
                weight += w
        if weight:
            values[k] = total / weight
            variances[k] = noise / weight
        else:
            values[k] = np.nan


def interpolate(
    image: np.ndarray, variance: np.ndarray, mask: np.ndarray, bits: int, unusable: int, reach: int = 12
) -> int:
    """Fill pixels from the nearest good ones along their row and column, in place, and set `INTERP`.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (ny, nx), float32
        The variance becomes that of the neighbours: what the pixel would have had.
    mask : `numpy.ndarray`, (ny, nx), int32
    bits : `int`
        Pixels with any of these bits are filled.
    unusable : `int`
        Pixels with any of these bits are not used as a source.
    reach : `int`, optional
        How far to look for a good pixel.

    Returns
    -------
    filled : `int`
        Number of pixels filled; one without good pixels within reach on both sides, along either axis, keeps its value.
    """
    ys, xs = _flagged(mask, np.int32(bits))
    values = np.empty(len(ys), np.float32)
    variances = np.empty(len(ys), np.float32)
    _fill(image, variance, mask, ys, xs, np.int32(bits | unusable), reach, values, variances)
    filled = np.isfinite(values)
    ys, xs = ys[filled], xs[filled]
    image[ys, xs] = values[filled]
    variance[ys, xs] = np.maximum(variances[filled], 0)
    mask[ys, xs] |= INTERP
    return int(filled.sum())
