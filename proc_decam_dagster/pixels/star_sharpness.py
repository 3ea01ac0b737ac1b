"""How sharp stars are on an image, measured without a PSF: it protects their cores where the seeing is sharp.

A cosmic ray is told from a star by being sharper than any star can be, so the limit must follow the seeing.
"""

from typing import NamedTuple

import numpy as np

from proc_decam_dagster.pixels.jit import jit

BRIGHT = 30.0
"""Peak over the sky, in standard deviations, of a star that is measured: noise then moves its ratio by 4 %."""

HIT = 0.36
"""Mean of opposite neighbours over the peak below which a maximum is no star: its FWHM were under 1.4 pixels."""

FEWEST = 10

RATIOS = np.array([0.43, 0.49, 0.55, 0.60, 0.66, 0.71, 0.74])
"""Mean of opposite neighbours over the peak of a Moffat star of 1.6, 1.8, 2.0, 2.2, 2.5, 2.8 and 3.0 pixels FWHM."""

FINE = np.array([3.8, 2.8, 2.15, 1.75, 1.33, 1.07, 0.94])
"""Its largest Laplacian over fine structure (see `cosmic_rays`), of exponents 2.5 and 4 and all places on a pixel."""

STEEP = np.array([8.2, 6.6, 5.5, 4.7, 3.95, 3.4, 3.15])
"""Its largest ratio of neighbouring pixels, likewise."""


class Sharpness(NamedTuple):
    """The sharpest that stars are: ``ratio`` of neighbours to peak, NaN if unknown; ``fine`` and ``steep`` as above."""

    ratio: float
    fine: float
    steep: float


@jit
def _ratios(image, variance, usable, noise, tile, out):  # pragma: no cover - compiled
    """Write the neighbour ratio of bright local maxima, the smaller one of both axes; return how many."""
    ny, nx = image.shape
    count = 0
    for y in range(6, ny - 6):
        row, below, above = image[y], image[y - 1], image[y + 1]
        for start in range(6, nx - 6, tile):
            limit = np.float32(BRIGHT) * noise[y // tile, start // tile]
            for x in range(start, min(start + tile, nx - 6)):
                peak = row[x]
                if peak - row[x - 6] <= limit or peak - row[x + 6] <= limit:
                    continue
                if peak < row[x - 1] or peak < row[x + 1] or peak < below[x] or peak < above[x]:
                    continue
                good = True
                for v in range(y - 2, y + 3):
                    for u in range(x - 2, x + 3):
                        if not usable[v, u] or image[v, u] > peak:
                            good = False
                if not good:
                    continue
                sky = min(min(row[x - 6], row[x + 6]), min(image[y - 6, x], image[y + 6, x]))
                height = peak - sky
                if height <= limit:
                    continue
                across = (row[x - 1] + row[x + 1]) * np.float32(0.5) - sky
                along = (below[x] + above[x]) * np.float32(0.5) - sky
                if count == len(out):
                    return count
                out[count] = min(across, along) / height
                count += 1
    return count


def measure_sharpness(image: np.ndarray, variance: np.ndarray, usable: np.ndarray, noise: np.ndarray, tile: int):
    """Measure how sharp the stars of an image are.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (ny, nx), float32
    usable : `numpy.ndarray`, (ny, nx), bool
        Pixels that are neither bad nor saturated.
    noise : `numpy.ndarray`, float32
        Blank-sky noise in tiles.
    tile : `int`
        Width of a tile, pixels.

    Returns
    -------
    sharpness : `Sharpness`
        Of a star of 3 pixels FWHM where there are too few stars to tell.
    """
    found = np.empty(20_000, np.float32)
    found = found[: _ratios(image, variance, usable, noise, tile, found)]
    stars = found[found > HIT]
    # A field of cosmic rays alone has a few round ones; stars lie together.
    if len(stars) < FEWEST:
        return Sharpness(float("nan"), float(FINE[-1]), float(STEEP[-1]))
    ratio = float(np.median(stars))
    return Sharpness(ratio, float(np.interp(ratio, RATIOS, FINE)), float(np.interp(ratio, RATIOS, STEEP)))
