"""The sky: a smooth background estimated with its sources masked, in two passes."""

from dataclasses import dataclass

import numpy as np
import sep
from scipy.interpolate import make_interp_spline
from scipy.ndimage import distance_transform_edt, median_filter

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.detection import Detections, detect, footprint_mask
from proc_decam_dagster.pixels.diffuse import diffuse_mask
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit

NOT_SKY = planes.UNUSABLE
COARSE = 2
"""The first pass looks at every such row and column: its level errs by a hundredth of the noise."""


@dataclass(frozen=True)
class Sky:
    """What was subtracted.

    Attributes
    ----------
    level : `float`
        Median of the background, in the image's unit.
    rms : `float`
        Median noise of a blank pixel.
    image : `numpy.ndarray`, (ny, nx), float32
        The background.
    found : `Detections`
        The sources that were masked.
    """

    level: float
    rms: float
    image: np.ndarray
    found: Detections


@jit
def _prepare(data, mask, not_sky, excluded, filled):  # pragma: no cover - compiled
    """Write which pixels are no sky, and the data with 0 there."""
    for y in range(data.shape[0]):
        for x in range(data.shape[1]):
            out = ((mask[y, x] & not_sky) != 0) | ~np.isfinite(data[y, x])
            excluded[y, x] = out
            filled[y, x] = np.float32(0) if out else data[y, x]


@jit
def _subtract(data, surface, mask, saturated, excluded, out):  # pragma: no cover - compiled
    """Write data minus a surface of every `COARSE`-th pixel; 0 where it is no sky, but for saturated stars: sources."""
    for y in range(data.shape[0]):
        level = surface[y // COARSE]
        for x in range(data.shape[1]):
            keep = ~excluded[y, x] | ((mask[y, x] & saturated) != 0)
            out[y, x] = data[y, x] - level[x // COARSE] if keep else np.float32(0)


@jit
def _clipped(values, low, high, origin):  # pragma: no cover - compiled
    """Return sum, sum of squares, and number of the values between two bounds; sums are about ``origin``."""
    total, square, n = 0.0, 0.0, 0
    for k in range(len(values)):
        v = float(values[k])
        inside = (v >= low) & (v <= high)
        d = v - origin if inside else 0.0
        total += d
        square += d * d
        n += inside
    return total, square, n


@jit
def _box_statistics(image, excluded, level, noise, used):  # pragma: no cover - compiled
    """Write the clipped mean and scatter of each box's sky pixels, and the fraction of them that were used."""
    ny, nx = image.shape
    boxes_y, boxes_x = level.shape
    sky = np.empty((ny // boxes_y + 1) * (nx // boxes_x + 1), np.float32)
    for j in range(boxes_y):
        y0, y1 = j * ny // boxes_y, (j + 1) * ny // boxes_y
        for i in range(boxes_x):
            x0, x1 = i * nx // boxes_x, (i + 1) * nx // boxes_x
            found = 0
            for y in range(y0, y1):
                values, left_out = image[y, x0:x1], excluded[y, x0:x1]
                for x in range(len(values)):
                    sky[found] = values[x]
                    found += not left_out[x]
            low, high = -np.inf, np.inf
            mean, scatter, count = np.nan, np.nan, 0
            for iteration in range(8):
                # Sums are taken about a value near the mean: float64 then loses nothing.
                origin = mean if iteration else float(sky[found // 2])
                total, square, n = _clipped(sky[:found], low, high, origin)
                if n < 2:
                    break
                mean = origin + total / n
                scatter = np.sqrt(max(square / n - (total / n) ** 2, 0.0))
                if n == count:
                    break
                count = n
                low, high = mean - 3 * scatter, mean + 3 * scatter
            level[j, i] = mean
            noise[j, i] = scatter / 0.98658  # a Gaussian clipped at 3 sigma
            used[j, i] = count / ((y1 - y0) * (x1 - x0))


def _spline_matrix(nodes: int, pixels: int) -> np.ndarray:
    """Return the natural cubic spline through the middles of ``nodes`` boxes, at every pixel: (pixels, nodes)."""
    if nodes == 1:
        return np.ones((pixels, 1), np.float32)
    edges = np.arange(nodes + 1) * pixels // nodes
    middles = (edges[:-1] + edges[1:] - 1) / 2
    degree = 3 if nodes > 3 else 1
    spline = make_interp_spline(middles, np.eye(nodes), k=degree, bc_type="natural" if degree == 3 else None)
    return spline(np.arange(pixels)).astype(np.float32)


def estimate(image: np.ndarray, excluded: np.ndarray, box: int = 128) -> tuple[np.ndarray, float]:
    """Return the background on a mesh, and the median noise of a sky pixel.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
    excluded : `numpy.ndarray`, (ny, nx), bool
        Pixels that are not sky: sources among them.
    box : `int`
        Width of a box, pixels.

    Returns
    -------
    background : `numpy.ndarray`, (ny, nx), float32
        Clipped mean of each box, median of 3×3 boxes, natural cubic spline between their middles.
    noise : `float`

    Raises
    ------
    MeasurementFailure
        If no box has sky.

    Notes
    -----
    The mean, not the usual mode from the median: images are stored in steps of a sixteenth of the noise, which move a
    median by up to half a step and ``2.5 median - 1.5 mean`` by more, but not the mean. It asks that sources be masked.
    """
    shape = tuple(max(1, round(n / box)) for n in image.shape)
    level, noise, used = np.empty(shape), np.empty(shape), np.empty(shape)
    _box_statistics(np.ascontiguousarray(image, np.float32), excluded, level, noise, used)
    known = np.isfinite(level) & (used > 0.15)
    if not known.any():
        raise MeasurementFailure("no part of the image is free of sources and bad pixels: there is no sky")
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    level = median_filter(level[tuple(nearest)], 3, mode="nearest")
    background = _spline_matrix(shape[0], image.shape[0]) @ level.astype(np.float32)
    return background @ _spline_matrix(shape[1], image.shape[1]).T, float(np.median(noise[known]))


def subtract(exposure: MaskedImage, box: int = 128, fwhm: float = 4.0) -> Sky:
    """Subtract the sky from an image, in place.

    The first pass sees every source; the second masks them, each with an ellipse that grows with its brightness, so
    that the wings of bright stars are not taken for sky, and galaxies larger than the mesh.

    Parameters
    ----------
    exposure : `MaskedImage`
        Image with sky; its `image` is replaced.
    box : `int`
        Width of a mesh box, pixels.
    fwhm : `float`
        Approximate seeing, pixels.

    Raises
    ------
    MeasurementFailure
        If there is no sky, or more sources are found than an image of the sky can have.
    """
    data = exposure.image
    excluded, residual = np.empty(data.shape, bool), np.empty(data.shape, np.float32)
    _prepare(data, exposure.mask, np.int32(NOT_SKY), excluded, residual)
    # Sources are not masked yet: here the mode is wanted.
    coarse = [np.ascontiguousarray(plane[::COARSE, ::COARSE]) for plane in (residual, excluded)]
    first = sep.Background(coarse[0], mask=coarse[1], bw=box // COARSE, bh=box // COARSE, fw=3, fh=3)
    surface = first.back()
    _subtract(data, surface, exposure.mask, np.int32(planes.SAT), excluded, residual)
    found = detect(residual, first.globalrms, None, fwhm, snr=4.0, deblend=False)
    excluded |= footprint_mask(data.shape, found, fwhm)
    shape = [max(1, round(n / box)) for n in data.shape]
    mesh = surface[tuple(np.ix_(*((np.arange(k) * n + n // 2) // k // COARSE for k, n in zip(shape, data.shape))))]
    diffuse = diffuse_mask(data, excluded, mesh, first.globalrms)
    if diffuse is not None:
        excluded |= diffuse
    sky, noise = estimate(data, excluded, box)
    exposure.image = data - sky
    return Sky(float(np.median(sky[::8, ::8])), noise, sky, found)
