"""Positions of sources: windowed centroids, as accurate as a PSF fit for stars and free of a model."""

import numpy as np
import sep

from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA


def windowed(
    image: np.ndarray, excluded: np.ndarray, x: np.ndarray, y: np.ndarray, fwhm: float, limit: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centroids weighted by a Gaussian of the seeing's width that follows the source.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Background-subtracted image.
    excluded : `numpy.ndarray`, (ny, nx), bool
        Pixels that are not used.
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
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if not len(x):
        return x.copy(), y.copy(), np.zeros(0, bool)
    # Beyond 4 sigma, where pixels are cut, weights are 3e-4: finer cuts change positions by less than 5e-4 pixel.
    wx, wy, flag = sep.winpos(image, x, y, np.full(len(x), fwhm / FWHM_PER_SIGMA), mask=excluded, subpix=5)
    failed = (flag != 0) | ~np.isfinite(wx) | ~np.isfinite(wy) | (np.hypot(wx - x, wy - y) > limit)
    return np.where(failed, x, wx), np.where(failed, y, wy), failed
