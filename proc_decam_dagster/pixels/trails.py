"""Trails: lines of satellites and aircraft across a CCD, and the tails of bleeding columns, found and masked.

Satellite trails are looked for in the image binned eightfold, with all sums along lines at once by the discrete Radon
transform (Götz & Druckmüller 1996, Brady 1998). A line counts if it is there in most of its pieces: no star, galaxy
or halo is.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.mask import CR, SAT, STREAK, UNUSABLE

BIN = 8
CLIP = 3.0
"""Standard deviations at which a bin is clipped, so that stars weigh no more than a faint trail."""

SMOOTH = 11
"""Bins of the median filter that takes off sky, halos and galaxies: a trail is narrower than half of it."""

THRESHOLD = 9.0
"""Sum along a line, in standard deviations of such sums, from which it is looked at."""

SHORTEST = 40
"""Bins: the corner that a shorter line cuts off is left alone."""

PIECES = 24
PRESENT = 0.7
"""Fraction of the pieces in which a trail must be seen."""

REACH = 40
"""Pixels to either side that are looked at: the widest trail, out of focus, is narrower."""

MOST = 8


@dataclass(frozen=True)
class Trail:
    """A straight trail across the image.

    Attributes
    ----------
    x, y : `float`
        A point on its middle, pixels.
    dx, dy : `float`
        Its direction, of unit length.
    half_width : `float`
        Pixels from the middle that are masked.
    brightness : `float`
        Median over the pieces of the height of its profile, in the image's unit.
    """

    x: float
    y: float
    dx: float
    dy: float
    half_width: float
    brightness: float


@jit
def _bin(image, mask, unusable, out):  # pragma: no cover - compiled
    """Write the mean of each bin's usable pixels, NaN where under half of them are."""
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            total = np.float32(0)
            count = 0
            for y in range(j * BIN, j * BIN + BIN):
                for x in range(i * BIN, i * BIN + BIN):
                    if (mask[y, x] & unusable) == 0:
                        total += image[y, x]
                        count += 1
            out[j, i] = total / count if 2 * count >= BIN * BIN else np.nan


@jit
def _line_sums(values, padding):  # pragma: no cover - compiled
    """Return sums from the first row to the last, (slopes, columns): slope ``s`` ends ``s`` columns to the right.

    The number of rows is a power of two; columns are padded on both sides by ``padding``.
    """
    ny, nx = values.shape
    width = nx + 2 * padding
    current = np.zeros((ny, 1, width), np.float32)
    for y in range(ny):
        for x in range(nx):
            current[y, 0, padding + x] = values[y, x]
    height = 1
    while height < ny:
        blocks = current.shape[0] // 2
        following = np.zeros((blocks, 2 * height, width), np.float32)
        for b in range(blocks):
            for s in range(2 * height):
                lower, upper = current[2 * b, s // 2], current[2 * b + 1, s // 2]
                out = following[b, s]
                shift = (s + 1) // 2
                for x in range(width - shift):
                    out[x] = lower[x] + upper[x + shift]
                for x in range(width - shift, width):
                    out[x] = lower[x]
        current = following
        height *= 2
    return current[0]


def _strongest(values: np.ndarray) -> tuple[float, tuple[float, float, float, float]]:
    """Return the significance of the best line through the bins, and its end points (x0, y0, x1, y1) in bins."""
    best = (0.0, (0.0, 0.0, 0.0, 0.0))
    for transpose in (False, True):
        for flip in (False, True):
            grid = values.T if transpose else values
            grid = grid[:, ::-1] if flip else grid
            ny, nx = grid.shape
            rows = 1 << (ny - 1).bit_length()
            known = np.isfinite(grid)
            signal, weight = np.zeros((2, rows, nx), np.float32)
            signal[:ny][known], weight[:ny][known] = grid[known], 1
            sums, counts = _line_sums(signal, rows), _line_sums(weight, rows)
            enough = counts >= SHORTEST
            if not enough.any():
                continue
            score = np.where(enough, sums / np.sqrt(np.maximum(counts, 1)), 0)
            sample = score[::3, ::3][enough[::3, ::3]]
            middle = np.median(sample)
            spread = max(1.4826 * np.median(np.abs(sample - middle)), 1.0)
            score = np.where(enough, (score - middle) / spread, 0)
            slope, start = np.unravel_index(np.argmax(score), score.shape)
            if score[slope, start] > best[0]:
                x0 = float(start - rows)
                x1 = x0 + slope
                ends = (x0, 0.0, x1, float(rows - 1))
                if flip:
                    ends = (nx - 1 - x0, 0.0, nx - 1 - x1, float(rows - 1))
                best = (float(score[slope, start]), (ends[1], ends[0], ends[3], ends[2]) if transpose else ends)
    return best


def _strip(image: np.ndarray, good: np.ndarray, x: float, y: float, dx: float, dy: float) -> np.ndarray:
    """Return the image along a line, (n, 2 `REACH` + 1), NaN outside the image and where it is not usable."""
    ny, nx = image.shape
    along = np.arange(-(nx + ny), nx + ny, 1.0)
    inside = (
        (x + along * dx > -0.5) & (x + along * dx < nx - 0.5) & (y + along * dy > -0.5) & (y + along * dy < ny - 0.5)
    )
    along = along[inside]
    across = np.arange(-REACH, REACH + 1.0)
    u = np.rint(x + along[:, None] * dx - across * dy).astype(np.int32)
    v = np.rint(y + along[:, None] * dy + across * dx).astype(np.int32)
    within = (u >= 0) & (u < nx) & (v >= 0) & (v < ny)
    u, v = np.where(within, u, 0), np.where(within, v, 0)
    return np.where(within & good[v, u], image[v, u], np.nan)


def _pieces(strip: np.ndarray) -> np.ndarray:
    """Return the median profile of each piece of a strip, (pieces, 2 `REACH` + 1), its own sky taken off."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of pieces without a usable pixel, which stay NaN
        profiles = np.array([np.nanmedian(part, axis=0) for part in np.array_split(strip, PIECES)])
        return profiles - np.nanmedian(profiles, axis=1, keepdims=True)


def _measure(
    image: np.ndarray, good: np.ndarray, noise: float, ends: tuple[float, float, float, float]
) -> Trail | None:
    """Return the trail along a line that was found in bins; `None` if it is not there in most of its pieces."""
    x0, y0, x1, y1 = (BIN * end + (BIN - 1) / 2 for end in ends)
    length = np.hypot(x1 - x0, y1 - y0)
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    # The point of the line that is nearest to the image's middle.
    cx, cy = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    t = (cx - x0) * dx + (cy - y0) * dy
    x, y = x0 + t * dx, y0 + t * dy
    across = np.arange(-REACH, REACH + 1)
    for _ in range(3):
        strip = _strip(image, good, x, y, dx, dy)
        if len(strip) < SHORTEST * BIN // 2:
            return None
        profiles = _pieces(strip)
        error = 1.2533 * noise / np.sqrt(len(strip) / PIECES * 5)
        smooth = uniform_filter1d(np.nan_to_num(profiles), 5, axis=1)
        smooth[:, np.abs(across) > REACH - 12] = 0
        peak = smooth.argmax(axis=1)
        known = np.isfinite(profiles).mean(axis=1) > 0.7
        seen = known & (smooth.max(axis=1) > 4 * error)
        if seen.sum() < 5:
            return None
        # Piece centres along the line, from the image's middle.
        along = (np.arange(PIECES) + 0.5) * len(strip) / PIECES - len(strip) / 2
        middle = _middle_of(x, y, dx, dy, image.shape)
        offset, slope = _robust_line(along[seen], across[peak[seen]].astype(float))
        near = seen & (np.abs(across[peak] - offset - slope * along) < 4)
        x, y = x + middle * dx - offset * dy, y + middle * dy + offset * dx
        turn = np.arctan(slope)
        dx, dy = dx * np.cos(turn) - dy * np.sin(turn), dy * np.cos(turn) + dx * np.sin(turn)
    if known.sum() < 5 or near.sum() < PRESENT * known.sum():
        return None
    profile = np.nanmedian(profiles[near], axis=0)
    height = float(np.nanmax(profile[REACH - 4 : REACH + 5]))
    level = max(0.02 * height, 2.5 * error * np.sqrt(5) / np.sqrt(near.sum()))
    above = uniform_filter1d(profile, 3) > level
    half = 0
    while half + 1 <= REACH and (above[REACH + half + 1] or above[REACH - half - 1]):
        half += 1
    return Trail(float(x), float(y), float(dx), float(dy), half + 2.0, height)


def _middle_of(x: float, y: float, dx: float, dy: float, shape: tuple[int, int]) -> float:
    """Return where on a line, from its point (x, y), the middle of its part inside the image is."""
    low, high = -np.inf, np.inf
    for point, step, size in ((x, dx, shape[1]), (y, dy, shape[0])):
        if abs(step) > 1e-9:
            a, b = sorted(((-0.5 - point) / step, (size - 0.5 - point) / step))
            low, high = max(low, a), min(high, b)
    return (low + high) / 2


def _robust_line(t: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """Return offset and slope of most points: the line through two of them that most others are near, refined."""
    best, count = (float(np.median(d)), 0.0), 0
    for i in range(len(t)):
        for j in range(i):
            slope = (d[i] - d[j]) / (t[i] - t[j])
            near = np.abs(d - d[i] - slope * (t - t[i])) < 3
            if near.sum() > count:
                count = int(near.sum())
                slope, offset = np.polyfit(t[near], d[near], 1) if count > 2 else (slope, d[i] - slope * t[i])
                best = (float(offset), float(slope))
    return best


def paint(mask: np.ndarray, trail: Trail, bits: int) -> None:
    """Set mask bits along a trail, in place."""
    ny, nx = mask.shape
    y = np.arange(ny)[:, None]
    distance = (np.arange(nx) - trail.x) * -trail.dy + (y - trail.y) * trail.dx
    mask[np.abs(distance) <= trail.half_width] |= bits


def find_trails(image: MaskedImage, most: int = MOST) -> list[Trail]:
    """Find satellite trails and set `STREAK` along them, in place.

    Parameters
    ----------
    image : `MaskedImage`
        Sky in or not; cosmic rays flagged.
    most : `int`, optional
        How many are looked for.

    Returns
    -------
    trails : `list` [`Trail`]

    Notes
    -----
    Only trails that cross the image from edge to edge are found: in a minute every satellite crosses DECam. A trail
    that is fainter than about a tenth of the sky noise a pixel is left in.
    """
    ny, nx = image.shape
    if min(ny, nx) < SHORTEST * BIN:
        return []
    pixels = np.ascontiguousarray(image.image, np.float32)
    bins = np.empty((ny // BIN, nx // BIN), np.float32)
    _bin(pixels, image.mask, np.int32(UNUSABLE), bins)
    known = np.isfinite(bins)
    if known.mean() < 0.3:
        return []
    filled = np.where(known, bins, np.median(bins[known]))
    # Of every fourth bin, in a window as wide: a quarter of the search's time otherwise.
    smooth = median_filter(filled[::2, ::2], SMOOTH // 2 | 1, mode="nearest")
    bins -= np.repeat(np.repeat(smooth, 2, 0), 2, 1)[: bins.shape[0], : bins.shape[1]]
    spread = 1.4826 * float(np.median(np.abs(bins[known])))
    if not spread > 0:
        return []
    bins = np.clip(bins / np.float32(spread), -CLIP, CLIP)
    good = (image.mask & UNUSABLE) == 0
    noise = float(np.sqrt(np.median(image.variance[::16, ::16])))
    trails: list[Trail] = []
    for _ in range(most):
        significance, ends = _strongest(bins)
        if significance < THRESHOLD:
            break
        trail = _measure(pixels, good, noise, ends)
        if trail is not None:
            trails.append(trail)
            paint(image.mask, trail, STREAK)
            line = ((trail.x - 3.5) / BIN, (trail.y - 3.5) / BIN, trail.dx, trail.dy, trail.half_width / BIN + 2)
        else:
            x0, y0, x1, y1 = ends
            length = float(np.hypot(x1 - x0, y1 - y0))
            line = (x0, y0, (x1 - x0) / length, (y1 - y0) / length, 2.0)
        # What has been looked at, trail or not, hides no other.
        covered = np.zeros(bins.shape, np.uint8)
        paint(covered, Trail(*line, brightness=0.0), 1)
        bins[covered == 1] = np.nan
    return trails


@jit
def _tails(image, variance, mask, shortest, sigma):  # pragma: no cover - compiled
    """Follow each long saturated run of a column while the column stands out of its neighbours; return pixels set."""
    ny, nx = image.shape
    count = 0
    for x in range(5, nx - 5):
        y = 0
        while y < ny:
            if mask[y, x] & SAT == 0:
                y += 1
                continue
            first = y
            while y < ny and mask[y, x] & SAT:
                y += 1
            if y - first < shortest:
                continue
            for direction in range(2):
                v = first - 1 if direction == 0 else y
                step = -1 if direction == 0 else 1
                quiet = 0
                while 0 <= v < ny and quiet < 3:
                    sides = np.float32(0)
                    usable = 0
                    for u in (x - 5, x - 4, x + 4, x + 5):
                        if mask[v, u] & (SAT | CR) == 0:
                            sides += image[v, u]
                            usable += 1
                    if usable == 0 or image[v, x] - sides / usable > sigma * np.sqrt(variance[v, x]):
                        for w in range(quiet + 1):  # with what noise has left between
                            if mask[v - w * step, x] & SAT == 0:
                                mask[v - w * step, x] |= SAT
                                count += 1
                        quiet = 0
                    else:
                        quiet += 1
                    v += step
    return count


def mask_bleed_tails(image: MaskedImage, shortest: int = 25, sigma: float = 4.0) -> int:
    """Extend saturated columns along the tails of their bleed trails, which lie below saturation; in place.

    Parameters
    ----------
    image : `MaskedImage`
        With `SAT` set.
    shortest : `int`, optional
        Rows of a saturated run that counts as a bleed trail: longer than any star's saturated core without one.
    sigma : `float`, optional
        Excess over the columns beside it, in standard deviations, of a pixel that belongs to the tail.

    Returns
    -------
    masked : `int`
        Pixels that became `SAT`.
    """
    return int(_tails(image.image, image.variance, image.mask, shortest, np.float32(sigma)))
