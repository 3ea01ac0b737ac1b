"""Flat fields: level of a frame, one illumination per exposure over all detectors, and defects in the master."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import BAD, SAT, SUSPECT

GRID = (16, 8)
"""Tiles (rows, columns) in which a frame's level is measured."""

DEFECT_CONTRAST = 0.12
"""Least relative deviation from the surroundings of a pixel that the flat cannot correct."""

DEFECT_TILE = 16


def tile_levels(image: MaskedImage, grid: tuple[int, int] = GRID, step: int = 4) -> np.ndarray:
    """Return the median of the usable pixels in each tile of an image.

    Parameters
    ----------
    image : `MaskedImage`
    grid : `tuple` [`int`, `int`], optional
        Number of tiles (rows, columns).
    step : `int`, optional
        Every how manieth pixel is used.

    Returns
    -------
    levels : `numpy.ndarray`, grid, float64
        In the unit of the image; NaN where fewer than a tenth of a tile's pixels are usable.
    """
    levels = np.full(grid, np.nan)
    rows = np.array_split(np.arange(0, image.shape[0], step), grid[0])
    columns = np.array_split(np.arange(0, image.shape[1], step), grid[1])
    for j, y in enumerate(rows):
        for i, x in enumerate(columns):
            part = (slice(y[0], y[-1] + 1, step), slice(x[0], x[-1] + 1, step))
            usable = (image.mask[part] & (BAD | SAT | SUSPECT)) == 0
            if usable.mean() >= 0.1:
                levels[j, i] = np.median(image.image[part][usable])
    return levels


@dataclass(frozen=True)
class Illumination:
    """How exposures and detectors share the light of a set of flats.

    Attributes
    ----------
    scales : `dict` [`int`, `float`]
        Illumination of each usable exposure, electrons.
    levels : `dict` [`int`, `float`]
        Response of each detector; their mean is 1.
    rejected : `dict` [`int`, `str`]
        Exposures left out, with the reason.
    scatter : `float`
        Robust relative scatter of the measured levels about scale × level.
    """

    scales: dict[int, float]
    levels: dict[int, float]
    rejected: dict[int, str]
    scatter: float


def fit_illumination(
    measured: Mapping[tuple[int, int], float], *, minimum: float = 1000.0, tolerance: float = 0.03
) -> Illumination:
    """Fit the levels of flat frames as the product of an exposure's illumination and a detector's response.

    Parameters
    ----------
    measured : mapping [(exposure, detector), level]
        Levels in electrons; NaN and missing ones are left out.
    minimum : `float`, optional
        Exposures whose median level is below this (electrons) are rejected: the lamp was off, or the shutter closed.
    tolerance : `float`, optional
        Exposures whose levels deviate from the product by more than this, relative and at the median over detectors,
        are rejected: light of another shape.

    Notes
    -----
    A common scale keeps the relative response of the detectors in the master flats, so that one zero point serves the
    whole focal plane. The product is fitted in the logarithm by alternating medians, which one odd detector or exposure
    cannot pull.
    """
    exposures = sorted({exposure for exposure, _ in measured})
    detectors = sorted({detector for _, detector in measured})
    table = np.full((len(exposures), len(detectors)), np.nan)
    for (exposure, detector), level in measured.items():
        if level is not None and np.isfinite(level) and level > 0:
            table[exposures.index(exposure), detectors.index(detector)] = np.log(level)
    rejected: dict[int, str] = {}
    for row, exposure in enumerate(exposures):
        good = np.isfinite(table[row])
        level = float(np.exp(np.median(table[row][good]))) if good.any() else 0.0
        if level < minimum:
            rejected[exposure] = f"level {level:.0f} electrons is below {minimum:.0f}"
            table[row] = np.nan

    scale, response = np.full(len(exposures), np.nan), np.zeros(len(detectors))
    for _ in range(2):  # once more without the exposures of another shape
        for _ in range(20):
            scale = _nanmedian(table - response, axis=1)
            response = _nanmedian(table - scale[:, None], axis=0)
        deviation = _nanmedian(np.abs(table - scale[:, None] - response), axis=1)
        for row in np.flatnonzero(deviation > tolerance):
            rejected[exposures[row]] = f"deviates by {deviation[row]:.1%} from the other exposures' illumination"
            table[row] = np.nan
        scale[np.isnan(table).all(axis=1)] = np.nan
    residual = table - scale[:, None] - response
    # Medians resist odd values; the mean of the rest is more precise and, for few detectors, unbiased.
    with np.errstate(invalid="ignore"):
        spread = np.maximum(1.4826 * _nanmedian(np.abs(residual).ravel(), axis=0), 1e-5)
        kept = np.where(np.abs(residual) < 5 * spread, residual, np.nan)
    for _ in range(5):
        step = np.nan_to_num(_nanmean(kept, axis=1))
        scale, kept = scale + step, kept - step[:, None]
        step = np.nan_to_num(_nanmean(kept, axis=0))
        response, kept = response + step, kept - step
    known = np.isfinite(response)
    mean = np.mean(np.exp(response[known])) if known.any() else 1.0
    return Illumination(
        {e: float(np.exp(s) * mean) for e, s in zip(exposures, scale) if np.isfinite(s)},
        {d: float(np.exp(r) / mean) for d, r in zip(detectors, response) if np.isfinite(r)},
        rejected,
        float(spread) if np.isfinite(spread) else float("nan"),
    )


def _nanmedian(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the median without NaN, NaN where nothing is left (and no warning)."""
    counts = np.isfinite(values).sum(axis=axis)
    safe = np.where(np.expand_dims(counts == 0, axis), 0.0, values)
    return np.where(counts > 0, np.nanmedian(safe, axis=axis), np.nan)


def _nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean without NaN, NaN where nothing is left."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0).sum(axis=axis) / finite.sum(axis=axis)


def flag_defects(flat: MaskedImage, contrast: float = DEFECT_CONTRAST, tile: int = DEFECT_TILE) -> int:
    """Set `BAD` where a master flat cannot correct: dead, hot or NaN pixels; in place.

    Parameters
    ----------
    flat : `MaskedImage`
        Master flat.
    contrast : `float`, optional
        Least relative deviation from the median of the tile around a pixel.
    tile : `int`, optional
        Size of the tiles, pixels.

    Returns
    -------
    flagged : `int`
        Number of pixels flagged.
    """
    image = flat.image
    ny, nx = image.shape
    flagged = 0
    for y in range(0, ny, tile):
        strip = image[y : y + tile]
        edges = range(0, nx, tile)
        if nx % tile == 0:
            cells = strip[::2].reshape(-1, nx // tile, tile)[:, :, ::2].swapaxes(0, 1).reshape(nx // tile, -1)
            local = np.repeat(_nanmedian(cells, axis=1), tile)
        else:
            local = np.concatenate([np.full(min(tile, nx - x), np.nanmedian(strip[:, x : x + tile])) for x in edges])
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = strip / local
            bad = ~(np.abs(ratio - 1) <= contrast) | ~(strip > 0)
        flat.mask[y : y + tile][bad] |= BAD
        flagged += int(bad.sum())
    return flagged
