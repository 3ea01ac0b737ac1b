"""Lanczos-3 resampling kernels: image, variance and mask onto another pixel grid, on plain arrays."""

import math

import numpy as np

from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.lanczos_sum import weighted_sum
from proc_decam_dagster.pixels.mask import NODATA

ORDER = 3
TABLE_SIZE = 1024

_NODATA = np.int32(NODATA)


def lanczos_weights(fraction) -> np.ndarray:
    """Return the 6 normalised weights that interpolate at ``fraction`` (0…1) past the third tap, (…, 6)."""
    distance = np.arange(1 - ORDER, ORDER + 1) - np.asarray(fraction, float)[..., None]
    weights = np.sinc(distance) * np.sinc(distance / ORDER) * (np.abs(distance) < ORDER)
    return weights / weights.sum(-1, keepdims=True)


_TABLE = lanczos_weights(np.arange(TABLE_SIZE + 1) / TABLE_SIZE).astype(np.float32)


@jit
def mask_around(mask, out):
    """Write, for each pixel (y, x), the bits of all pixels that matter to a position between it and (y + 1, x + 1).

    They are the 4×4 around it without the corners, whose weights are small. The outermost pixels get none: nothing is
    interpolated there.
    """
    ny, nx = mask.shape
    out[:] = 0
    for y in range(1, ny - 2):
        above, row, below, last, result = mask[y - 1], mask[y], mask[y + 1], mask[y + 2], out[y]
        for x in range(1, nx - 2):
            inner = row[x] | row[x + 1] | below[x] | below[x + 1]
            sides = row[x - 1] | below[x - 1] | row[x + 2] | below[x + 2]
            result[x] = inner | sides | above[x] | above[x + 1] | last[x] | last[x + 1]


@jit
def resample(image, variance, mask, around, grid_x, grid_y, step, scale, table, out, out_variance, out_mask):
    """Fill the output pixels that have no value yet (mask bit NODATA) from an input image.

    Parameters
    ----------
    image, variance, mask : `numpy.ndarray`, (ny, nx)
        Input.
    around : `numpy.ndarray`, (ny, nx)
        The mask as `mask_around` writes it.
    grid_x, grid_y : `numpy.ndarray`, (n, m), float64
        Input pixel position of every ``step``-th output pixel; NaN where there is none. Bilinear in between.
    step : `int`
        Output pixels per grid cell.
    scale : `float`
        Output unit per input unit, before the pixel-area ratio.
    table : `numpy.ndarray`, (t+1, 6), float32
        Kernel weights by sub-pixel phase.
    out, out_variance, out_mask : `numpy.ndarray`
        Output arrays, changed in place.
    """
    ny, nx = out.shape
    height, width = image.shape
    phases = table.shape[0] - 1
    rows, columns = (ny + step - 1) // step, (nx + step - 1) // step
    # Cells are taken in the order of the input's rows, whichever way it is turned (DECam's lie along the tract's
    # columns): the next cell then finds its pixels' cache lines and pages near those of the last.
    turned = abs(grid_y[rows // 2, columns] - grid_y[rows // 2, 0]) > abs(
        grid_x[rows // 2, columns] - grid_x[rows // 2, 0]
    )
    for number in range(rows * columns):
        cell_y, cell_x = (number % rows, number // rows) if turned else (number // columns, number % columns)
        x00, x01 = grid_x[cell_y, cell_x], grid_x[cell_y, cell_x + 1]
        x10, x11 = grid_x[cell_y + 1, cell_x], grid_x[cell_y + 1, cell_x + 1]
        y00, y01 = grid_y[cell_y, cell_x], grid_y[cell_y, cell_x + 1]
        y10, y11 = grid_y[cell_y + 1, cell_x], grid_y[cell_y + 1, cell_x + 1]
        low_x, high_x = min(x00, x01, x10, x11), max(x00, x01, x10, x11)
        low_y, high_y = min(y00, y01, y10, y11), max(y00, y01, y10, y11)
        if not (high_x >= 2 and high_y >= 2 and low_x < width - 3 and low_y < height - 3):  # NaN fails too
            continue
        if math.isnan(x00 + x01 + x10 + x11 + y00 + y01 + y10 + y11):
            continue
        # the Jacobian is constant to 1e-5 over a cell
        dx_dx, dy_dx = 0.5 * (x01 - x00 + x11 - x10) / step, 0.5 * (y01 - y00 + y11 - y10) / step
        dx_dy, dy_dy = 0.5 * (x10 - x00 + x11 - x01) / step, 0.5 * (y10 - y00 + y11 - y01) / step
        factor = np.float32(scale * abs(dx_dx * dy_dy - dx_dy * dy_dx))
        squared = factor * factor
        inside = low_x >= 2 and low_y >= 2 and high_x < width - 3 and high_y < height - 3
        first = cell_x * step
        for j in range(cell_y * step, min((cell_y + 1) * step, ny)):
            t = (j - cell_y * step) / step
            start_x, start_y = x00 + (x10 - x00) * t, y00 + (y10 - y00) * t
            slope_x = (x01 + (x11 - x01) * t - start_x) / step
            slope_y = (y01 + (y11 - y01) * t - start_y) / step
            values, errors, bits = out[j, first:], out_variance[j, first:], out_mask[j, first:]
            for i in range(min(step, nx - first)):
                x = start_x + slope_x * i
                y = start_y + slope_y * i
                if not inside and (x < 2 or y < 2 or x >= width - 3 or y >= height - 3):
                    continue
                if bits[i] & _NODATA == 0:
                    continue
                x0, y0 = int(x), int(y)
                # Indices without a sign: a negative one would be looked for, and would count from the end.
                phase_x, phase_y = np.uint32((x - x0) * phases + 0.5), np.uint32((y - y0) * phases + 0.5)
                total = weighted_sum(image, y0 - 2, x0 - 2, table[phase_x], table[phase_y])
                nearest_x, nearest_y = np.uint32(x + 0.5), np.uint32(y + 0.5)
                if math.isnan(total):
                    bits[i] |= mask[nearest_y, nearest_x]
                    continue
                values[i] = total * factor
                errors[i] = variance[nearest_y, nearest_x] * squared
                bits[i] = around[np.uint32(y0), np.uint32(x0)]


@jit
def fill_along_rows(image, mask, bits, longest):
    """Replace, in place, flagged runs of at most ``longest`` pixels by the line between their row neighbours.

    Resampling would otherwise ring around cosmic rays and bad columns; the mask still tells which pixels they were.
    """
    ny, nx = image.shape
    for j in range(ny):
        i = 0
        while i < nx:
            if mask[j, i] & bits == 0 and not math.isnan(image[j, i]):
                i += 1
                continue
            end = i
            while end < nx and (mask[j, end] & bits != 0 or math.isnan(image[j, end])):
                end += 1
            if end - i <= longest:
                left = image[j, i - 1] if i > 0 else (image[j, end] if end < nx else np.float32(math.nan))
                right = image[j, end] if end < nx else left
                for k in range(i, end):
                    image[j, k] = left + (right - left) * np.float32((k - i + 1) / (end - i + 1))
            i = end


def weight_table() -> np.ndarray:
    """Return the kernel's weights by sub-pixel phase, (TABLE_SIZE + 1, 6), float32; each row sums to 1."""
    return _TABLE
