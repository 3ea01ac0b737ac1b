"""Positions of sources: windowed centroids, as accurate as a PSF fit for stars and free of a model."""

import numpy as np

from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA

REACH = 4.0
"""Radius of the window in its sigmas: weights there are 3e-4, so that whole pixels may be taken or left."""
STEPS, CLOSE = 16, 1e-4
"""Most steps of the iteration, and the move (pixels) at which it ends."""


@jit
def _windowed(image, excluded, sigma, limit, x, y, failed):  # pragma: no cover - compiled
    """Move positions to their centroids; where that fails they stay (see `windowed`)."""
    ny, nx = image.shape
    reach = REACH * sigma
    size = int(2 * reach) + 3
    columns, rows = np.empty(size), np.empty(size)
    for s in range(len(x)):
        cx, cy = x[s], y[s]
        for _ in range(STEPS):
            x0, y0 = int(np.floor(cx - reach)), int(np.floor(cy - reach))
            x1, y1 = int(np.ceil(cx + reach)), int(np.ceil(cy + reach))
            failed[s] = x0 < 0 or y0 < 0 or x1 >= nx or y1 >= ny
            if failed[s]:
                break
            for i in range(x1 - x0 + 1):
                columns[i] = np.exp(-0.5 * ((x0 + i - cx) / sigma) ** 2)
            for j in range(y1 - y0 + 1):
                rows[j] = np.exp(-0.5 * ((y0 + j - cy) / sigma) ** 2)
            light, moment_x, moment_y, spoilt = 0.0, 0.0, 0.0, False
            for j in range(y1 - y0 + 1):
                dy = y0 + j - cy
                half = reach * reach - dy * dy
                if half < 0:
                    continue
                half = np.sqrt(half)
                first, last = int(np.ceil(cx - half)) - x0, int(np.floor(cx + half)) - x0
                values, left_out = image[y0 + j, x0:], excluded[y0 + j, x0:]
                here, first_moment, bad = 0.0, 0.0, 0
                for i in range(first, last + 1):
                    weighted = columns[i] * values[i]
                    here += weighted
                    first_moment += weighted * (x0 + i - cx)
                    bad += left_out[i]
                light += rows[j] * here
                moment_x += rows[j] * first_moment
                moment_y += rows[j] * here * dy
                spoilt |= bad > 0
            failed[s] = spoilt or not light > 0.0
            if failed[s]:
                break
            # The window halves the moment of a source of its own width: twice the step goes to the middle at once.
            step_x, step_y = 2 * moment_x / light, 2 * moment_y / light
            cx += step_x
            cy += step_y
            failed[s] = not (cx - x[s]) ** 2 + (cy - y[s]) ** 2 <= limit * limit
            if failed[s] or step_x * step_x + step_y * step_y < CLOSE * CLOSE:
                break
        if not failed[s]:
            x[s], y[s] = cx, cy


def windowed(
    image: np.ndarray, excluded: np.ndarray, x: np.ndarray, y: np.ndarray, fwhm: float, limit: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centroids weighted by a Gaussian of the seeing's width that follows the source.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Background-subtracted image.
    excluded : `numpy.ndarray`, (ny, nx), bool
        Pixels that are not used: with one in its window a source fails.
    x, y : `numpy.ndarray`, (n,)
        First guesses, pixels.
    fwhm : `float`
        Seeing, pixels.
    limit : `float`
        Longest believable move from the first guess, in pixels.

    Returns
    -------
    x, y : `numpy.ndarray`, (n,)
        Centroids; the first guess where the iteration failed.
    failed : `numpy.ndarray`, (n,), bool

    Notes
    -----
    SExtractor's XWIN_IMAGE and YWIN_IMAGE (Bertin's SExtractor manual, "Windowed positional parameters"), without its
    parts of pixels at the window's edge.
    """
    x, y, failed = np.array(x, float), np.array(y, float), np.zeros(len(x), bool)
    _windowed(image, excluded, fwhm / FWHM_PER_SIGMA, float(limit), x, y, failed)
    return x, y, failed
