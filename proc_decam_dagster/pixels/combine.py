"""Combination of raw frames into a master: a clipped weighted mean that stays unbiased for few frames.

Frames stay the integers that were read out, and are turned into floats tile by tile: memory is 18 MB a frame, and many
frames are combined in groups.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from proc_decam_dagster.pixels.isr import Master, leak_terms, source_row
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.linearity import NONE, linearise
from proc_decam_dagster.pixels.overscan import Overscan
from proc_decam_dagster.pixels.readout import Readout

THRESHOLD = 4.5
"""Standard deviations beyond which a frame's pixel is clipped: a normal one is lost in 1 of 150,000."""

GROUP = 24
"""Frames held in memory at once."""

TILE = 512
"""Columns combined at once, so that all frames of a tile fit the processor's first cache."""


@dataclass
class FrameStack:
    """Several raws of one detector.

    Parameters
    ----------
    readouts : sequence of `Readout`
        Amplifiers: where they lie, and their gains.

    Attributes
    ----------
    raws : `list` [`numpy.ndarray`], each (ny_raw, nx_raw), uint16
    overscans : `list` [`list` [`Overscan`]]
        Per frame, that of every amplifier.
    """

    readouts: Sequence[Readout]
    raws: list[np.ndarray] = field(default_factory=list)
    overscans: list[list[Overscan]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.raws)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the trimmed detector."""
        return max(r.box[3] for r in self.readouts), max(r.box[2] for r in self.readouts)

    def add(self, raw: np.ndarray, overscans: list[Overscan]) -> None:
        """Add a frame.

        Parameters
        ----------
        raw : `numpy.ndarray`, (ny_raw, nx_raw), integer
            Kept as it is if it is uint16, not copied.
        overscans : `list` [`Overscan`]
            That of every amplifier of this frame.
        """
        raw = raw if raw.dtype == np.uint16 else np.clip(raw, 0, 65535)
        self.raws.append(np.require(raw, np.uint16, ["C", "W"]))
        self.overscans.append(overscans)

    def padded(self) -> tuple[np.ndarray, ...]:
        """Return the raws as kernels take them, compiled for multiples of `GROUP`: the last one is repeated."""
        return (*self.raws, *self.raws[-1:] * (-len(self) % GROUP))


@dataclass(frozen=True)
class Combined:
    """A combined stack.

    Attributes
    ----------
    mean, variance : `numpy.ndarray`, (ny, nx), float32
        Clipped weighted mean and its variance.
    clipped : `int`
        Number of frame pixels left out.
    scatter : `float`
        Scatter of the frames about the mean over what the noise model says, robust: 1 where the model holds.
    """

    mean: np.ndarray
    variance: np.ndarray
    clipped: int
    scatter: float


@jit
def _exact(values, n, weights, slopes, floors, systematic, threshold, order):  # pragma: no cover - compiled
    """Clipped mean of one pixel around its median: (mean, variance, number clipped)."""
    for k in range(n):
        i = k - 1
        while i >= 0 and order[i] > values[k]:
            order[i + 1] = order[i]
            i -= 1
        order[i + 1] = values[k]
    median = np.float32(0.5) * (order[(n - 1) // 2] + order[n // 2])
    level = max(median, np.float32(0))
    total = np.float32(0)
    weight = np.float32(0)
    square = np.float32(0)
    kept = 0
    for k in range(n):
        sigma2 = slopes[k] * level + floors[k]
        deviation = values[k] - median
        if deviation * deviation <= threshold * (sigma2 + systematic * median * median):
            total += weights[k] * deviation
            weight += weights[k]
            square += weights[k] * weights[k] * sigma2
            kept += 1
    if kept == 0:  # an even number of frames in two clumps: nothing tells which one is right
        return median, np.float32(np.inf), n
    return median + total / weight, square / (weight * weight), n - kept


@jit
def _extend(values, weights, k, n, m, low, high, total):  # pragma: no cover - compiled
    """Take frames ``k`` to ``k + 3`` into the lowest, the highest and the weighted sum of ``m`` pixels.

    What is kept is read and written once for four frames; beyond the ``n`` that there are the last one stands in, with
    no weight. What was lowest is compared in the midst of the others: as the last it would become a masked store, which
    many processors do ten times slower.
    """
    first, second = values[k], values[min(k + 1, n - 1)]
    third, fourth = values[min(k + 2, n - 1)], values[min(k + 3, n - 1)]
    w0 = weights[k]
    w1 = weights[k + 1] if k + 1 < n else np.float32(0)
    w2 = weights[k + 2] if k + 2 < n else np.float32(0)
    w3 = weights[k + 3] if k + 3 < n else np.float32(0)
    for i in range(m):
        a, b, c, d = first[i], second[i], third[i], fourth[i]
        low[i] = min(min(a, b), min(min(c, d), low[i]))
        high[i] = max(max(a, b), max(max(c, d), high[i]))
        total[i] += (w0 * a + w1 * b) + (w2 * c + w3 * d)


@jit
def _combine(
    frames, n, raw_y0, raw_x0, levels, source_levels, coefficient, source_x0, mirrored, offset, has_offset, table, x0,
    n_columns,
    scales, weights, slopes, floors, systematic, threshold, tile, mean, variance,
):  # pragma: no cover - compiled  # fmt: skip
    """Combine one amplifier of all frames; return the number of clipped frame pixels."""
    ny = mean.shape[0]
    threshold = threshold * threshold
    values = np.empty((n, tile), np.float32)
    source = np.zeros(tile, np.float32)
    low = np.empty(tile, np.float32)
    high = np.empty(tile, np.float32)
    centre = np.empty(tile, np.float32)
    pixel = np.empty(n, np.float32)
    order = np.empty(n, np.float32)
    entry = np.empty(tile, np.uint32)
    fraction = np.empty(tile, np.float32)
    all_weight = np.float32(0)
    all_slope = np.float32(0)
    all_floor = np.float32(0)
    least_slope = np.float32(np.inf)
    least_floor = np.float32(np.inf)
    for k in range(n):
        least_slope = min(least_slope, slopes[k])
        least_floor = min(least_floor, floors[k])
        all_weight += weights[k]
        all_slope += weights[k] * weights[k] * slopes[k]
        all_floor += weights[k] * weights[k] * floors[k]
    inverse = np.float32(1) / all_weight
    linear = len(table) > 2
    clipped = 0
    for y in range(ny):
        for start in range(0, n_columns, tile):
            m = min(tile, n_columns - start)
            for k in range(n):
                frame = frames[k]
                counts = frame[raw_y0 + y, raw_x0 + start : raw_x0 + start + m]
                row = values[k]
                level = levels[k, y]
                for i in range(m):
                    row[i] = np.float32(counts[i]) - level
                if coefficient != 0:
                    first = source_x0 + (n_columns - start - m if mirrored else start)
                    source_row(frame, raw_y0 + y, first, m, mirrored, source_levels[k, y], source)
                    for i in range(m):
                        row[i] -= coefficient * source[i]
                if has_offset:
                    shift = offset[y, x0 + start : x0 + start + m]
                    for i in range(m):
                        row[i] -= shift[i]
                if linear:
                    linearise(row, m, table, entry, fraction)
                scale = scales[k]
                if scale != 1:
                    for i in range(m):
                        row[i] *= scale
            for i in range(m):
                low[i] = values[0, i]
                high[i] = values[0, i]
                centre[i] = 0
            for k in range(0, n, 4):
                _extend(values, weights, k, n, m, low, high, centre)
            out = mean[y, x0 + start : x0 + start + m]
            noise = variance[y, x0 + start : x0 + start + m]
            for i in range(m):
                value = centre[i] * inverse
                out[i] = value
                # Without its extremes the mean is safe from one wild value; where one of them may stand out, the median
                # decides below.
                robust = (value * n - low[i] - high[i]) / (n - 2)
                level = max(robust, np.float32(0))
                noise[i] = (all_slope * level + all_floor) * inverse * inverse
                extreme = max(high[i] - robust, robust - low[i])
                sigma2 = least_slope * level + least_floor + systematic * robust * robust
                centre[i] = extreme * extreme - threshold * sigma2
            for i in range(m):
                if centre[i] > 0:
                    for k in range(n):
                        pixel[k] = values[k, i]
                    value, square, lost = _exact(
                        pixel, n, weights, slopes, floors, systematic, threshold, order
                    )  # fmt: skip
                    out[i] = value
                    noise[i] = square
                    clipped += lost
    return clipped


def combine(
    stack: FrameStack,
    *,
    bias: Master | None = None,
    crosstalk: np.ndarray | None = None,
    linearity: Mapping[str, np.ndarray] | None = None,
    scales: Sequence[float] | None = None,
    noise: Sequence[Sequence[float]] | None = None,
    systematic: float = 0.0,
    threshold: float = THRESHOLD,
) -> Combined:
    """Return the clipped mean of a stack of raw frames.

    Parameters
    ----------
    stack : `FrameStack`
        At least three frames.
    bias : `Master`, optional
        Subtracted from every frame.
    crosstalk : `numpy.ndarray`, (2, 2) or (2, 2, 5), optional
        As `isr.correct` takes it; of leaks from signals beyond the onset only the proportional part is taken off.
    linearity : mapping [`str`, `numpy.ndarray`], optional
        By amplifier, the `linearity.correction_table`.
    scales : sequence of `float`, optional
        Illumination of every frame, electrons: frames are turned into electrons, divided by it and weighted with it
        (the maximum-likelihood mean of Poisson counts). Without it frames are combined in ADU, with equal weights.
    noise : sequence of sequence of `float`, optional
        Standard deviation of a dark pixel in ADU, per frame and amplifier; the overscan's noise otherwise.
    systematic : `float`, optional
        Relative change of a pixel between frames that is not noise (a lamp that moves), so as not to clip it.
    threshold : `float`, optional

    Notes
    -----
    Clipping uses the noise known from overscan and photon statistics, not the scatter of a handful of values, so the
    mean loses next to nothing (1 pixel in 150,000) and is as unbiased for 5 frames as for 50. Nearly all pixels take
    the fast path, the plain mean; only those with a value that stands out are sorted and clipped around their median,
    which cosmic rays in fewer than half of the frames cannot move.
    """
    n = len(stack)
    if n < 3:
        raise ValueError(f"a clipped mean needs at least 3 frames, got {n}")
    mean = np.empty(stack.shape, np.float32)
    variance = np.empty(stack.shape, np.float32)
    nothing, raws = np.zeros((1, 1), np.float32), stack.padded()
    levels = np.array([[overscan.levels for overscan in frame] for frame in stack.overscans], np.float32)
    clipped = 0
    scatter = []
    for victim, readout in enumerate(stack.readouts):
        source = 1 - victim
        other = stack.readouts[source]
        dark = [frame[victim].noise for frame in stack.overscans] if noise is None else [row[victim] for row in noise]
        # Rounding to whole ADU adds 1/12, which the measured noise of the overscan already holds.
        dark = np.maximum(np.array(dark, float), np.sqrt(1 / 12))
        if scales is None:
            factor, weights = np.ones(n), np.ones(n)
            slopes, floors = np.zeros(n), dark**2
        else:
            weights = np.asarray(scales, float)
            factor = readout.gain / weights
            slopes, floors = 1 / weights, (dark * factor) ** 2
        arguments = [np.ascontiguousarray(a, np.float32) for a in (factor, weights / weights.mean(), slopes, floors)]
        coefficient = leak_terms(crosstalk, victim, source)[0]
        table = (linearity or {}).get(readout.name, NONE)
        x0, _, x1, _ = readout.box
        clipped += _combine(
            raws, n, readout.data[1], readout.data[0],
            np.ascontiguousarray(levels[:, victim]), np.ascontiguousarray(levels[:, source]),
            coefficient, other.data[0], readout.flip_x != other.flip_x,
            bias.image if bias else nothing, bias is not None, table, x0, x1 - x0,
            *arguments, np.float32(systematic**2), np.float32(threshold), TILE, mean, variance,
        )  # fmt: skip
        scatter.append(_scatter(stack, victim, bias, arguments, mean, table))
    return Combined(mean, variance, int(clipped), float(np.mean(scatter)))


def _scatter(
    stack: FrameStack, amplifier: int, bias: Master | None, arguments: list, mean: np.ndarray, table: np.ndarray
) -> float:
    """Return the frames' robust scatter about the mean over the noise model's, of every fourth pixel of 16 rows.

    They are 4,000 pixels of a frame: the scatter of three frames is known to 1 %, that of twenty to 0.3 %.
    """
    (x0, y0, x1, y1), (u0, v0, u1, v1) = stack.readouts[amplifier].box, stack.readouts[amplifier].data
    step = max((y1 - y0) // 16, 1)
    rows, columns = slice(y0, y1, step), slice(x0, x1, 4)
    factor, weights, slopes, floors = arguments
    centre = mean[rows, columns]
    ratios = []
    for k, raw in enumerate(stack.raws):
        value = raw[v0:v1:step, u0:u1:4] - stack.overscans[k][amplifier].levels[::step, None]
        value = np.ascontiguousarray(value - bias.image[rows, columns] if bias else value, np.float32)
        if len(table) > 2:
            room = np.empty(value.size, np.uint32), np.empty(value.size, np.float32)
            linearise(value.ravel(), value.size, table, *room)
        value *= factor[k]
        # The frame is part of the mean, which takes its share of the deviation.
        share = 1 - weights[k] / weights.sum()
        sigma = np.sqrt((slopes[k] * np.maximum(centre, 0) + floors[k]) * share)
        pull = (value - centre) / sigma
        ratios.append(np.subtract(*np.percentile(pull, [75, 25])) / 1.349)
    return float(np.mean(ratios))


@dataclass(frozen=True)
class Frame:
    """A frame to be combined: its raw array, its overscans and, for flats, its illumination in electrons."""

    raw: np.ndarray
    overscans: list[Overscan]
    scale: float = 1.0


def combine_frames(
    frames: Iterable[Frame], count: int, readouts: Sequence[Readout], *, scaled: bool = False, group: int = GROUP,
    **options,
) -> Combined:  # fmt: skip
    """Combine any number of frames in bounded memory.

    Parameters
    ----------
    frames : iterable of `Frame`
        Read one by one.
    count : `int`
        How many there are; at least 3.
    readouts : sequence of `Readout`
    scaled : `bool`, optional
        Whether the frames' scales are used: flats.
    group : `int`, optional
        Frames held at once; more are combined in groups of equal size, and the groups' means are averaged.
    **options
        Those of `combine`.
    """
    n_groups = -(-count // group)
    if n_groups > 1 and count // n_groups < 3:
        raise ValueError(f"groups of {group} frames leave fewer than 3 of {count} for one of them")
    frames = iter(frames)
    parts = []
    for g in range(n_groups):
        size = count * (g + 1) // n_groups - count * g // n_groups
        stack = FrameStack(readouts)
        scales = []
        for _ in range(size):
            frame = next(frames)
            stack.add(frame.raw, frame.overscans)
            scales.append(frame.scale)
        parts.append((sum(scales), combine(stack, scales=scales if scaled else None, **options)))
        del stack
    if len(parts) == 1:
        return parts[0][1]
    mean, variance, total = (np.zeros_like(parts[0][1].mean) for _ in range(3))
    for scale, part in parts:
        weight = np.where(np.isfinite(part.variance), np.float32(scale), np.float32(0))
        mean += weight * part.mean
        variance += weight**2 * np.where(weight > 0, part.variance, 0)
        total += weight
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, variance = mean / total, variance / total**2
    undecided = total == 0
    mean[undecided], variance[undecided] = parts[0][1].mean[undecided], np.inf
    return Combined(
        mean, variance, sum(part.clipped for _, part in parts), float(np.mean([part.scatter for _, part in parts]))
    )
