"""Overscan: the electronic level of every row of an amplifier, without printing the overscan's noise into the image."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.readout import Readout

WINDOW = 101
"""Rows of the smoothing window: the level's noise falls to 0.15 of that of one row's mean."""

TRIMMED = 0.1
"""Fraction of a row's overscan pixels dropped at either end for its first estimate."""

TRIMMED_VARIANCE = 0.4377
"""Variance of a unit normal distribution without its lowest and highest tenth."""


@dataclass(frozen=True)
class Overscan:
    """Overscan of one amplifier of one exposure.

    Attributes
    ----------
    levels : `numpy.ndarray`, (ny,), float32
        Level of every row of the imaging area, ADU.
    noise : `float`
        Standard deviation of the overscan pixels about their row's level, ADU: the read noise.
    jitter : `float`
        Standard deviation of the rows about the smooth level beyond what noise explains, ADU.
    """

    levels: np.ndarray
    noise: float
    jitter: float


BLOCK = 128
"""Rows that are sorted together, one a lane of the processor's vectors."""


@jit
def _order(low, high, n):  # pragma: no cover - compiled
    """Exchange pairs so that the first ``n`` of ``low`` are not above those of ``high``."""
    for y in range(n):
        a, b = low[y], high[y]
        low[y] = min(a, b)
        high[y] = max(a, b)


@jit
def _trimmed_rows(strip, mean, variance, columns):  # pragma: no cover - compiled
    """First estimate: each row's trimmed mean and variance; ``columns`` gets the pixels, each row's in a column."""
    ny, n = strip.shape
    drop = int(n * TRIMMED)
    values = np.empty((n, BLOCK), strip.dtype)
    offsets = np.empty(BLOCK, np.float32)
    squares = np.empty(BLOCK, np.float32)
    for start in range(0, ny, BLOCK):
        m = min(BLOCK, ny - start)
        for y in range(m):
            for i in range(n):
                values[i, y] = strip[start + y, i]
        # The lowest tenth goes to one end and the highest to the other; the order of the rest does not matter.
        for k in range(drop):
            for i in range(k, n - 1 - k):
                _order(values[i], values[i + 1], m)
            for i in range(n - 2 - k, k, -1):
                _order(values[i - 1], values[i], m)
        for i in range(n):
            column, row = columns[i, start : start + m], values[i]
            for y in range(m):
                column[y] = row[y]
        middle = values[n // 2]
        offsets[:] = 0
        squares[:] = 0
        for i in range(drop, n - drop):
            row = values[i]
            for y in range(m):
                offset = np.float32(row[y]) - np.float32(middle[y])
                offsets[y] += offset
                squares[y] += offset * offset
        count = n - 2 * drop
        for y in range(m):
            mean[start + y] = np.float32(middle[y]) + offsets[y] / count
            variance[start + y] = (squares[y] - offsets[y] * offsets[y] / count) / (count - 1)


@jit
def _clipped_rows(columns, limit, mean, variance):  # pragma: no cover - compiled
    """Mean and variance of each row's pixels within ``limit`` of its first estimate; ``mean`` is replaced.

    A row's pixels are a column of ``columns``: many rows are added up at once.
    """
    ny = len(mean)
    centre, total, square = np.empty(ny, np.float32), np.zeros(ny, np.float32), np.zeros(ny, np.float32)
    count = np.zeros(ny, np.int32)
    zero, limit = np.float32(0), np.float32(limit)
    for y in range(ny):
        centre[y] = mean[y]
    for i in range(len(columns)):
        pixels = columns[i]
        for y in range(ny):
            offset = np.float32(pixels[y]) - centre[y]
            inside = abs(offset) <= limit
            offset = offset if inside else zero
            total[y] += offset
            square[y] += offset * offset
            count[y] += np.int32(1) if inside else np.int32(0)
    for y in range(ny):
        if count[y] > 1:
            mean[y] = centre[y] + total[y] / count[y]
            variance[y] = (square[y] - total[y] * total[y] / count[y]) / (count[y] - 1)
        else:
            variance[y] = np.nan


@cache
def _parabola(window: int) -> np.ndarray:
    """Return what makes of ``window`` values their least-squares parabola, (window, window) float64."""
    basis, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, window), 3))
    return basis @ basis.T


def _smooth(rows: np.ndarray, window: int) -> np.ndarray:
    """Return the local parabola through ``window`` rows at every row; at the ends that of the last ones."""
    fit, half = _parabola(window), window // 2
    middle = np.convolve(rows, fit[half], "valid")
    return np.concatenate([fit[:half] @ rows[:window], middle, fit[half + 1 :] @ rows[-window:]])


def _trend(rows: np.ndarray, window: int, group: int = 10) -> np.ndarray:
    """Return the running median of rows over a window, evaluated for groups of rows and interpolated between them."""
    from scipy.ndimage import median_filter

    group = min(group, len(rows))
    count = len(rows) // group
    medians = np.median(rows[: count * group].reshape(count, group), axis=1)
    smooth = median_filter(medians, max(window // group, 1), mode="nearest")
    return np.interp(np.arange(len(rows)), (np.arange(count) + 0.5) * group - 0.5, smooth)


def _robust_variance(values: np.ndarray) -> float:
    return float((1.4826 * np.median(np.abs(values - np.median(values)))) ** 2)


def measure_overscan(raw: np.ndarray, readout: Readout, window: int = WINDOW) -> Overscan:
    """Measure the level of every row of an amplifier.

    Parameters
    ----------
    raw : `numpy.ndarray`, (ny_raw, nx_raw), integer
        Raw array of the CCD, ADU.
    readout : `Readout`
    window : `int`, optional
        Rows of the smoothing window.

    Notes
    -----
    Each row's mean over 50 pixels is uncertain by a seventh of the read noise, and that would be printed into the image
    as stripes. So the level is a local parabola over ``window`` rows (Savitzky & Golay 1964), plus the deviation of the
    row itself as far as the rows really jitter (a Wiener weight: the jitter's share of the observed deviation). Rows
    whose overscan holds charge of a saturated star are replaced by their neighbours' level.
    """
    x0, y0, x1, y1 = readout.overscan[0], readout.data[1], readout.overscan[2], readout.data[3]
    strip = np.ascontiguousarray(raw[y0:y1, x0:x1])  # every row is far from the next: fetched once
    rows = np.empty(y1 - y0, np.float64)
    variance = np.empty_like(rows)
    columns = np.empty(strip.shape[::-1], strip.dtype)
    _trimmed_rows(strip, rows, variance, columns)
    sigma = np.sqrt(max(np.median(variance) / TRIMMED_VARIANCE, 1 / 12))
    _clipped_rows(columns, 4 * sigma, rows, variance)
    noise = float(np.sqrt(np.nanmedian(variance)))

    window = min(window, (len(rows) - 1) // 2 * 2 - 1)
    trend = _trend(rows, window // 2)
    expected = max(noise, np.sqrt(1 / 12)) ** 2 / (x1 - x0)
    spread = max(_robust_variance(rows - trend), expected)
    rows = np.where(np.abs(rows - trend) > 6 * np.sqrt(spread), trend, rows)

    smooth = _smooth(rows, window)
    observed = _robust_variance(rows - smooth)
    excess = max(observed - expected, 0.0)
    levels = smooth + (excess / observed if observed > 0 else 0.0) * (rows - smooth)
    return Overscan(levels.astype(np.float32), noise, float(np.sqrt(excess)))
