"""Lanczos-3 resampling kernels: image, variance and mask onto another pixel grid, on plain arrays."""

import math

import numpy as np

from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.lanczos_run import LANES, OUTSIDE, TAPS, interpolate, put
from proc_decam_dagster.pixels.mask import NODATA

_NODATA = np.int32(NODATA)


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
def _arrange(tile, lines, length, turned, backward, arranged):  # pragma: no cover - compiled
    """Write a tile of lines as rows of the output: turned about its diagonal, lines taken from their ends, or both."""
    for line in range(lines):
        source = tile[line]
        if turned:
            for i in range(length):
                arranged[length - 1 - i if backward else i, line] = source[i]
        else:
            for i in range(length):
                arranged[line, length - 1 - i if backward else i] = source[i]


@jit
def _inside(x, y, width, height):  # pragma: no cover - compiled
    """Return whether all pixels that a position is interpolated from are there."""
    return x >= 2 and y >= 2 and x < width - 3 and y < height - 3


@jit
def _put_one(value, error, new, out, out_variance, out_mask, row, column):  # pragma: no cover - compiled
    """Do what `put` does for one pixel."""
    old = out_mask[row, column]
    if old & _NODATA == 0 or new == OUTSIDE:
        return False
    if math.isnan(value):
        out_mask[row, column] = old | new
        return False
    out[row, column], out_variance[row, column], out_mask[row, column] = value, error, new
    return new & _NODATA == 0


@jit
def resample(image, variance, mask, around, grid_x, grid_y, step, scale, out, out_variance, out_mask):
    """Fill the output pixels that have no value yet (mask bit NODATA) from an input image.

    Parameters
    ----------
    image, variance, mask : `numpy.ndarray`, (ny, nx)
        Input, C-contiguous. Behind the image's last pixel `LANES` more must be in memory, whatever they hold: see
        `with_slack`.
    around : `numpy.ndarray`, (ny, nx)
        The mask as `mask_around` writes it.
    grid_x, grid_y : `numpy.ndarray`, (n, m), float64
        Input pixel position of every ``step``-th output pixel; NaN where there is none. Bilinear in between.
    step : `int`
        Output pixels per grid cell.
    scale : `float`
        Output unit per input unit, before the pixel-area ratio.
    out, out_variance, out_mask : `numpy.ndarray`
        Output arrays, changed in place; their rows are contiguous.

    Returns
    -------
    reached : `bool`
        Whether any pixel has got a value.

    Notes
    -----
    Pixels are interpolated in runs along the input's rows, whichever way it is turned (DECam's lie along the tract's
    columns): as long as input positions move on by one pixel for each, and stay between the same two rows, the input
    pixels of a run are contiguous.
    """
    ny, nx = out.shape
    height, width = image.shape
    reached = False
    if width < TAPS + 1 or height < TAPS:
        return reached
    rows, columns = (ny + step - 1) // step, (nx + step - 1) // step
    # A line may be written beyond its end, for a run is always written whole.
    values, errors = np.empty((step, step + LANES), np.float32), np.empty((step, step + LANES), np.float32)
    bits = np.empty((step, step + LANES), np.int32)
    new_values, new_errors = np.empty((step, step), np.float32), np.empty((step, step), np.float32)
    new_bits = np.empty((step, step), np.int32)
    turned = abs(grid_y[rows // 2, columns] - grid_y[rows // 2, 0]) > abs(
        grid_x[rows // 2, columns] - grid_x[rows // 2, 0]
    )
    # In the order of the input's rows: the next cell finds its pixels' cache lines and pages near those of the last.
    for number in range(rows * columns):
        cell_y, cell_x = (number % rows, number // rows) if turned else (number // columns, number % columns)
        x00, x01 = grid_x[cell_y, cell_x], grid_x[cell_y, cell_x + 1]
        x10, x11 = grid_x[cell_y + 1, cell_x], grid_x[cell_y + 1, cell_x + 1]
        y00, y01 = grid_y[cell_y, cell_x], grid_y[cell_y, cell_x + 1]
        y10, y11 = grid_y[cell_y + 1, cell_x], grid_y[cell_y + 1, cell_x + 1]
        if not (
            max(x00, x01, x10, x11) >= 2 and max(y00, y01, y10, y11) >= 2
            and min(x00, x01, x10, x11) < width - 3 and min(y00, y01, y10, y11) < height - 3
        ):  # fmt: skip
            continue
        if math.isnan(x00 + x01 + x10 + x11 + y00 + y01 + y10 + y11):
            continue
        # the Jacobian is constant to 1e-5 over a cell
        dx_dx, dy_dx = 0.5 * (x01 - x00 + x11 - x10) / step, 0.5 * (y01 - y00 + y11 - y10) / step
        dx_dy, dy_dy = 0.5 * (x10 - x00 + x11 - x01) / step, 0.5 * (y10 - y00 + y11 - y01) / step
        factor = np.float32(scale * abs(dx_dx * dy_dy - dx_dy * dy_dx))
        factors = factor, factor * factor
        backward = (dx_dy if turned else dx_dx) < 0
        top, left = cell_y * step, cell_x * step
        bottom, right = min(top + step, ny), min(left + step, nx)
        lines, length = bottom - top, right - left
        if turned:  # a line is a column of the output
            x01, x10, y01, y10 = x10, x01, y10, y01
            lines, length = length, lines
        for line in range(lines):
            t = line / step
            start_x, start_y = x00 + (x10 - x00) * t, y00 + (y10 - y00) * t
            slope_x = (x01 + (x11 - x01) * t - start_x) / step
            slope_y = (y01 + (y11 - y01) * t - start_y) / step
            if backward:  # from the other end, so that positions move on in the input
                start_x, start_y = start_x + slope_x * (length - 1), start_y + slope_y * (length - 1)
                slope_x, slope_y = -slope_x, -slope_y
            slopes = np.float32(slope_x - 1), np.float32(slope_y)
            # Positions lie on a straight line: those inside the input are all that lie between two of them.
            first, end = 0, length
            while first < end and not _inside(start_x + slope_x * first, start_y + slope_y * first, width, height):
                first += 1
            while first < end and not _inside(
                start_x + slope_x * (end - 1), start_y + slope_y * (end - 1), width, height
            ):  # fmt: skip
                end -= 1
            i = first
            while i < end:
                x, y = start_x + slope_x * i, start_y + slope_y * i
                # inside, whatever rounding makes of a position on the very limit
                x0, y0 = max(2, min(int(x), width - 4)), max(2, min(int(y), height - 4))
                n = min(end - i, LANES)
                while n > 1 and not (int(x + slope_x * (n - 1)) == x0 + n - 1 and int(y + slope_y * (n - 1)) == y0):
                    n -= 1
                parts = np.float32(x - x0), np.float32(y - y0)
                if interpolate(image, variance, around, y0, x0, parts, slopes, factors, values, errors, bits, line, i):
                    for k in range(n):
                        if math.isnan(values[line, i + k]):
                            nearest_x = int(x + slope_x * k + 0.5)
                            bits[line, i + k] = mask[int(y + slope_y * k + 0.5), nearest_x] | _NODATA
                i += n
            bits[line, :first] = OUTSIDE
            bits[line, end:length] = OUTSIDE
        _arrange(values, lines, length, turned, backward, new_values)
        _arrange(errors, lines, length, turned, backward, new_errors)
        _arrange(bits, lines, length, turned, backward, new_bits)
        for row in range(top, bottom):
            column = left
            while column + LANES <= right:
                reached |= put(
                    new_values, new_errors, new_bits, row - top, column - left, _NODATA,
                    out, out_variance, out_mask, row, column,
                )  # fmt: skip
                column += LANES
            while column < right:
                new = new_values[row - top, column - left], new_errors[row - top, column - left]
                flags = new_bits[row - top, column - left]
                reached |= _put_one(*new, flags, out, out_variance, out_mask, row, column)
                column += 1
    return reached


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


def with_slack(image: np.ndarray) -> np.ndarray:
    """Return a copy of an image, float32, with as much memory behind its last pixel as `resample` wants."""
    image = np.asarray(image)
    copy = np.empty(image.size + LANES, np.float32)[: image.size].reshape(image.shape)
    copy[...] = image
    return copy
