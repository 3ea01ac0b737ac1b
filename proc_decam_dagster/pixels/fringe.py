"""Fringes: the interference pattern of the night sky's lines in z and Y, scaled from a template and taken off."""

import numpy as np

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import UNUSABLE

BIN = 8
"""Pixels: fringes are tens of pixels wide."""

ITERATIONS = 8
FEWEST = 500
"""Bins of sky from which a scale can be told."""


def _binned(image: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the mean of each bin's good pixels, NaN where under half of them are."""
    ny, nx = (n // BIN for n in image.shape)
    blocks, cut = (ny, BIN, nx, BIN), np.s_[: ny * BIN, : nx * BIN]
    count = good[cut].reshape(blocks).sum((1, 3), dtype=np.float32)
    total = np.where(good[cut], image[cut], np.float32(0)).reshape(blocks).sum((1, 3))
    return np.where(2 * count >= BIN**2, total / np.maximum(count, 1), np.nan)


def remove_fringes(image: MaskedImage, template: np.ndarray) -> tuple[float, float]:
    """Take a template of the fringes off a flat-fielded image, in place, as strongly as they are there.

    Parameters
    ----------
    image : `MaskedImage`
        Sky and sources in.
    template : `numpy.ndarray`, (ny, nx), float32
        The pattern, in any unit and about any level; NaN where it is not known: these pixels stay as they are.

    Returns
    -------
    scale, error : `float`
        Image units per template unit, and its standard deviation.

    Raises
    ------
    MeasurementFailure
        If too little sky is seen to tell the scale.

    Notes
    -----
    Least squares of the binned sky on the template and a quadratic sky, clipped: stars are high outliers.
    """
    if template.shape != image.shape:
        raise ValueError(f"template of fringes has shape {template.shape}, the image {image.shape}")
    known = np.isfinite(template)
    good = known & ((image.mask & UNUSABLE) == 0) & np.isfinite(image.image)
    sky, pattern = _binned(image.image, good).ravel(), _binned(template, good)
    y, x = (g.ravel() for g in np.meshgrid(*(np.linspace(-1, 1, n) for n in pattern.shape), indexing="ij"))
    pattern = pattern.ravel()
    usable = np.flatnonzero(np.isfinite(sky))
    if len(usable) < FEWEST:
        raise MeasurementFailure(f"{len(usable)} bins of sky are too few to scale the fringes", n_bins=len(usable))
    level = float(np.median(template[good][::37]))
    terms = np.stack([pattern - level, x**0, x, y, x * x, x * y, y * y], -1)[usable]
    values, kept = sky[usable], np.ones(len(usable), bool)
    # The start knows nothing of fringes: what is far above the median is a star.
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    kept = values < np.median(values) + 3 * spread
    for _ in range(ITERATIONS):
        fit = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        residual = values - terms @ fit
        spread = 1.4826 * np.median(np.abs(residual[kept]))
        kept = np.abs(residual) < 3 * max(spread, 1e-6)
    covariance = np.linalg.inv(terms[kept].T @ terms[kept]) * spread**2
    scale = float(fit[0])
    image.image -= np.where(known, np.float32(scale) * (template - np.float32(level)), np.float32(0))
    return scale, float(np.sqrt(covariance[0, 0]))
