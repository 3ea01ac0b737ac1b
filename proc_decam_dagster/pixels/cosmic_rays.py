"""Cosmic rays: Laplacian edge detection (L.A.Cosmic, van Dokkum 2001), worked out only where the image has sharp edges.

The Laplacian of the twofold subsampled image is written as sums over the image's own pixels, so no finer image is made,
and the median filters of the original are evaluated at candidates alone.
"""

import numpy as np

from proc_decam_dagster.pixels.defects import interpolate
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.mask import BAD, CR, NODATA, SAT
from proc_decam_dagster.pixels.small_medians import median, median3
from proc_decam_dagster.pixels.star_sharpness import measure_sharpness

THRESHOLD = 5.3
"""Laplacian significance of a hit pixel."""

SEED = 0.7
"""Fraction of the threshold from which a pixel is looked at: faint tracks have no pixel above it, but many below."""

FAINT = 16.0
"""Summed excess, in standard deviations, of three or more connected pixels that are a hit though none is above it."""

NEIGHBOUR = 0.35
"""Fraction of the threshold that suffices for a neighbour of a hit pixel."""

CONTRAST = 2.0
"""Least Laplacian over fine structure: a star of 3 pixels FWHM reaches about 1, a single hit pixel far more."""

STAR_MARGIN = 1.5
"""How far above what the image's own stars reach that must be at least: the noise of faint ones moves them."""

RELAXED = 0.5
"""Fraction of the contrast that suffices beside a hit."""

STEEPNESS = 5.0
"""Least ratio to a neighbour's excess over the sky that no star has: at 3 pixels FWHM one reaches about 3."""

STEEP_MARGIN = 1.4
"""How far above what the image's own stars reach that must be at least."""

EXCESS = (2.8, 2.8, 2.0, 1.7)
"""Excess over its surroundings, in standard deviations, of a pixel beside 0, 1, 2, 3 or more hits on a smooth sky."""

SMOOTH = 2.0
"""Fine structure, in standard deviations, below which the sky counts as smooth."""

BLANK = 2.0
"""Fine structure, in standard deviations, below which there is no star that noise could make a hit of."""

RAISED = 7.5
"""Noise of a Laplacian, in standard deviations of a pixel, that makes no hit of a star: 3.4 times what it has."""

ITERATIONS = 100
TILE = 64
PAD = 6
"""Border added by reflection: the reach of the largest filter."""


@jit
def _laplacian(image, y, x):  # pragma: no cover - compiled
    """Mean over a pixel's four quadrants of the positive Laplacian of the twofold subsampled image."""
    twice = image[y, x] + image[y, x]
    left, right, down, up = image[y, x - 1], image[y, x + 1], image[y - 1, x], image[y + 1, x]
    zero = np.float32(0)
    return np.float32(0.25) * (
        max(twice - left - down, zero) + max(twice - right - down, zero)
        + max(twice - left - up, zero) + max(twice - right - up, zero)
    )  # fmt: skip


@jit
def _significance(image, variance, y, x, buffer):  # pragma: no cover - compiled
    """Laplacian significance with its local median taken off, so that smooth structure does not count."""
    n = 0
    for v in range(y - 2, y + 3):
        for u in range(x - 2, x + 3):
            buffer[n] = variance[v, u]  # the median noise: that of the pixel without the charge of the hit
            n += 1
    noise = np.sqrt(median(buffer, n))
    n = 0
    for v in range(y - 2, y + 3):
        for u in range(x - 2, x + 3):
            buffer[n] = _laplacian(image, v, u)
            n += 1
    centre = buffer[12]
    return (centre - median(buffer, n)) / (np.float32(2) * noise), noise


@jit
def _fine_structure(image, y, x, buffer):  # pragma: no cover - compiled
    """What a star has and a cosmic ray has not: the median over 3 pixels minus the lower quartile of that over 7.

    The original takes the median, which hides a star that stands on a brighter one's flank.
    """
    n = 0
    for v in range(y - 3, y + 4):
        for u in range(x - 3, x + 4):
            buffer[n] = median3(image, v, u)
            n += 1
    centre = buffer[24]
    median(buffer, n)
    return centre - buffer[n // 4]


@jit
def _candidates(image, noise, tile, threshold, usable, ys, xs):  # pragma: no cover - compiled
    """Find pixels whose Laplacian may reach the threshold above the blank-sky noise of their tile; return how many."""
    ny, nx = image.shape
    row = np.empty(nx, np.float32)
    zero = np.float32(0)
    quarter = np.float32(0.25)
    count = 0
    for y in range(PAD, ny - PAD):
        below, middle, above = image[y - 1], image[y], image[y + 1]
        for x in range(1, nx - 1):
            twice = middle[x] + middle[x]
            left, right, down, up = middle[x - 1], middle[x + 1], below[x], above[x]
            row[x] = quarter * (
                max(twice - left - down, zero) + max(twice - right - down, zero)
                + max(twice - left - up, zero) + max(twice - right - up, zero)
            )  # fmt: skip
        tile_row = noise[(y - PAD) // tile]
        for start in range(PAD, nx - PAD, tile):
            limit = 2 * threshold * tile_row[(start - PAD) // tile]
            stop = min(start + tile, nx - PAD)
            highest = zero
            for x in range(start, stop):
                highest = max(highest, row[x])
            if highest <= limit:
                continue
            for x in range(start, stop):
                if row[x] > limit and usable[y, x]:
                    if count == len(ys):
                        return -1
                    ys[count] = y
                    xs[count] = x
                    count += 1
    return count


@jit
def _clean(image, variance, hit, usable, ys, xs, start, stop):  # pragma: no cover - compiled
    """Replace hit pixels by the median of the good ones around them."""
    buffer = np.empty(121, np.float32)
    for k in range(start, stop):
        for field in range(2):
            plane = image if field == 0 else variance
            for reach in range(2, 6):
                n = 0
                for v in range(ys[k] - reach, ys[k] + reach + 1):
                    for u in range(xs[k] - reach, xs[k] + reach + 1):
                        if usable[v, u] and not hit[v, u]:
                            buffer[n] = plane[v, u]
                            n += 1
                if n >= 6:
                    plane[ys[k], xs[k]] = median(buffer, n)
                    break


@jit
def _steep(image, usable, noise, steepness, y, x, buffer):  # pragma: no cover - compiled
    """Whether the image falls to a neighbour faster than any star does: the side of a wide, straight track."""
    n = 0
    for v in range(y - 3, y + 4):
        for u in range(x - 3, x + 4):
            buffer[n] = image[v, u]
            n += 1
    median(buffer, n)
    base = buffer[n // 10]
    least = image[y, x] - base - 5 * steepness * noise
    for step in range(4):
        v = y + (1 if step == 0 else -1 if step == 1 else 0)
        u = x + (1 if step == 2 else -1 if step == 3 else 0)
        if usable[v, u] and least > steepness * max(image[v, u] - base, np.float32(0)):
            return True
    return False


@jit
def _excess(image, hit, usable, y, x, buffer):  # pragma: no cover - compiled
    """What a pixel has above the median of the good pixels around it."""
    n = 0
    for v in range(y - 3, y + 4):
        for u in range(x - 3, x + 4):
            if usable[v, u] and not hit[v, u] and (v != y or u != x):
                buffer[n] = image[v, u]
                n += 1
    return image[y, x] - median(buffer, n) if n else np.float32(0)


@jit
def _beside(hit, y, x):  # pragma: no cover - compiled
    """Return how many of a pixel's eight neighbours are hit."""
    n = 0
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            n += 1 if hit[v, u] else 0
    return n


@jit
def _drop_faint(hit, ys, xs, strength, excess, threshold):  # pragma: no cover - compiled
    """Unset groups of connected hits that have neither a pixel above the threshold nor enough charge in all."""
    number = np.full(hit.shape, -1, np.int32)
    for k in range(len(ys)):
        number[ys[k], xs[k]] = k
    stack = np.empty(len(ys), np.int32)
    for first in range(len(ys)):
        if number[ys[first], xs[first]] < 0:
            continue
        # Members of the group are kept at the bottom of the stack, and looked at once each.
        stack[0] = first
        number[ys[first], xs[first]] = -1
        size, at = 1, 0
        highest, total = np.float32(0), np.float32(0)
        while at < size:
            k = stack[at]
            at += 1
            highest = max(highest, strength[k])
            total += excess[k]
            for v in range(ys[k] - 1, ys[k] + 2):
                for u in range(xs[k] - 1, xs[k] + 2):
                    if number[v, u] >= 0:
                        stack[size] = number[v, u]
                        number[v, u] = -1
                        size += 1
        if highest <= threshold and (size < 3 or total < FAINT):
            for at in range(size):
                hit[ys[stack[at]], xs[stack[at]]] = False


@jit
def _search(
    image, variance, usable, ys, xs, n_candidates, threshold, seed, neighbour, contrast, star, steepness,
    iterations, hit, visited,
):  # pragma: no cover - compiled  # fmt: skip
    """Find hit pixels, clean them, look again around them; ``hit`` and the images are changed."""
    buffer = np.empty(49, np.float32)
    capacity = len(ys)
    found_y = np.empty(capacity, np.int32)
    found_x = np.empty(capacity, np.int32)
    strength = np.empty(capacity, np.float32)
    excess = np.empty(capacity, np.float32)
    found = 0
    for iteration in range(iterations):
        first = found
        # Once around all of the image; then beside the hits, where a fainter excess will do.
        limit = seed * threshold if iteration == 0 else neighbour * threshold
        least = contrast if iteration == 0 else RELAXED * contrast
        for k in range(n_candidates):
            y, x = ys[k], xs[k]
            if found == capacity:
                break
            significance, noise = _significance(image, variance, y, x, buffer)
            # The rim of a wide hit is too smooth for the Laplacian; beside a hit on blank sky an excess is enough.
            above = _excess(image, hit, usable, y, x, buffer) / noise
            rim = iteration > 0 and above > EXCESS[min(_beside(hit, y, x), 3)]
            if significance <= limit and not rim:
                continue
            fine = max(_fine_structure(image, y, x, buffer), np.float32(0.01) * noise)
            smooth = fine < SMOOTH * noise
            if iteration > 0 and smooth and not rim:
                continue
            at_edge = min(y, x) < PAD + 4 or y >= image.shape[0] - PAD - 4 or x >= image.shape[1] - PAD - 4
            laplacian = _laplacian(image, y, x)
            sharp = significance > limit and laplacian > (4 * least if at_edge else least) * fine
            # Where there may be a star, a first hit must stand above what noise can make of its core.
            if iteration == 0 and fine > BLANK * noise and (
                significance <= threshold or laplacian <= star * fine + RAISED * noise
            ):  # fmt: skip
                continue
            if sharp or (rim and smooth) or _steep(image, usable, noise, steepness, y, x, buffer):
                found_y[found] = y
                found_x[found] = x
                strength[found] = significance
                excess[found] = above
                found += 1
        for k in range(first, found):
            hit[found_y[k], found_x[k]] = True
        if found == first:
            break
        _clean(image, variance, hit, usable, found_y, found_x, first, found)
        # A wide hit is peeled layer by layer: cleaned of its ridge, its rim stands out.
        n_candidates = 0
        for k in range(first, found):
            for v in range(found_y[k] - 1, found_y[k] + 2):
                for u in range(found_x[k] - 1, found_x[k] + 2):
                    if usable[v, u] and not hit[v, u] and visited[v, u] != iteration + 1 and n_candidates < capacity:
                        visited[v, u] = iteration + 1
                        ys[n_candidates] = v
                        xs[n_candidates] = u
                        n_candidates += 1
    _drop_faint(hit, found_y[:found], found_x[:found], strength, excess, threshold)


def _blank_noise(variance: np.ndarray, tile: int) -> np.ndarray:
    """Return the noise of blank sky in tiles: a low percentile of every 4th pixel, below any star's."""
    ny, nx = variance.shape
    pad = np.pad(variance[::4, ::4], ((0, -(-ny // 4) % (tile // 4)), (0, -(-nx // 4) % (tile // 4))), mode="edge")
    step = tile // 4
    pad = pad[: pad.shape[0] // step * step, : pad.shape[1] // step * step]
    cells = pad.reshape(pad.shape[0] // step, step, -1, step).swapaxes(1, 2).reshape(pad.shape[0] // step, -1, step**2)
    return np.sqrt(np.partition(cells, step**2 // 8, axis=-1)[..., step**2 // 8]).astype(np.float32)


def find_cosmic_rays(
    image: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    *,
    threshold: float = THRESHOLD,
    neighbour: float = NEIGHBOUR,
    contrast: float = CONTRAST,
    iterations: int = ITERATIONS,
    unusable: int = BAD | SAT | NODATA,
) -> np.ndarray:
    """Find the pixels that cosmic rays hit.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (ny, nx), float32
        Electrons, the sky may be in or not; the variance holds the sky's noise. Bad pixels must hold interpolated
        values, or their edges look like hits.
    mask : `numpy.ndarray`, (ny, nx), int32
    threshold : `float`, optional
        Laplacian significance of a hit.
    neighbour : `float`, optional
        Fraction of it that suffices beside a hit.
    contrast : `float`, optional
        Least ratio of Laplacian to fine structure; it is raised where the image's own stars come near it.
    iterations : `int`, optional
        A hit is peeled from its rim, one layer an iteration.
    unusable : `int`, optional
        Mask bits of pixels that are neither hits nor used to find them.

    Returns
    -------
    hit : `numpy.ndarray`, (ny, nx), bool

    Notes
    -----
    The noise is the median variance of 5×5 pixels, so a hit's own charge does not hide it. The sky need not be known:
    Laplacian and fine structure are differences.
    """
    usable = (mask & unusable) == 0
    pixels = np.pad(image, PAD, mode="reflect")
    noise = np.pad(variance, PAD, mode="reflect")
    inside = np.pad(usable, PAD)
    sky = _blank_noise(np.where(usable, variance, np.nanmedian(variance[::8, ::8])), TILE)
    stars = measure_sharpness(pixels, noise, inside, np.pad(sky, 1, mode="edge")[1:, 1:], TILE)
    capacity = image.size // 8
    while True:
        ys, xs = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        count = _candidates(pixels, sky, TILE, np.float32(SEED * threshold), inside, ys, xs)
        if count >= 0:
            break
        capacity = image.size + 1
    # Room for the neighbours of all hits of all iterations.
    ys, xs = (np.concatenate([c[:count], np.empty(max(8 * count, 4096), np.int32)]) for c in (ys, xs))
    hit = np.zeros(pixels.shape, np.bool_)
    visited = np.zeros(pixels.shape, np.uint8)
    _search(
        pixels, noise, inside, ys, xs, count, np.float32(threshold), np.float32(SEED), np.float32(neighbour),
        np.float32(contrast), np.float32(STAR_MARGIN * stars.fine),
        np.float32(max(STEEPNESS, STEEP_MARGIN * stars.steep)), iterations, hit, visited,
    )  # fmt: skip
    return hit[PAD:-PAD, PAD:-PAD].copy()


def repair(image: MaskedImage, **options) -> int:
    """Find cosmic rays, flag them `CR` and `INTERP`, and fill them from their neighbours; in place.

    Parameters
    ----------
    image : `MaskedImage`
        Electrons, with interpolated defects.
    **options
        Those of `find_cosmic_rays`.

    Returns
    -------
    hits : `int`
        Number of pixels flagged.
    """
    hit = find_cosmic_rays(image.image, image.variance, image.mask, **options)
    image.mask[hit] |= CR
    interpolate(image.image, image.variance, image.mask, CR, BAD | SAT | NODATA)
    return int(hit.sum())
