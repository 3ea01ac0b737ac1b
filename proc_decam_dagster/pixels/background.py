"""The sky: a smooth background estimated with its sources masked, in two passes."""

from dataclasses import dataclass

import numpy as np
import sep

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.detection import Detections, detect, footprint_mask
from proc_decam_dagster.pixels.image import MaskedImage

NOT_SKY = planes.BAD | planes.SAT | planes.CR | planes.EDGE | planes.NODATA


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


def estimate(image: np.ndarray, excluded: np.ndarray, box: int = 128) -> sep.Background:
    """Return the background on a mesh: clipped mode of each box, median-filtered over 3×3 boxes, spline between.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
    excluded : `numpy.ndarray`, (ny, nx), bool
        Pixels that are not sky.
    box : `int`
        Width of a box, pixels.
    """
    return sep.Background(np.ascontiguousarray(image, np.float32), mask=excluded, bw=box, bh=box, fw=3, fh=3)


def subtract(exposure: MaskedImage, box: int = 128, fwhm: float = 4.0) -> Sky:
    """Subtract the sky from an image, in place.

    The first pass sees every source; the second masks them, each with an ellipse that grows with its brightness, so
    that the wings of bright stars are not taken for sky.

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
        If more sources are found than an image of the sky can have.
    """
    data = exposure.image
    excluded = ((exposure.mask & NOT_SKY) != 0) | ~np.isfinite(data)
    first = estimate(np.where(excluded, np.float32(0), data), excluded, box)
    residual = np.where(excluded & ((exposure.mask & planes.SAT) == 0), np.float32(0), data - first.back())
    found = detect(residual, np.full(data.shape, first.globalrms, np.float32), None, fwhm, snr=8.0, deblend=False)
    second = estimate(data, excluded | footprint_mask(data.shape, found, fwhm), box)
    sky = second.back()
    exposure.image = data - sky
    return Sky(float(np.median(sky)), float(second.globalrms), sky, found)
