"""Sources found above the noise: matched filter, threshold, deblending; their footprints as a mask."""

from dataclasses import dataclass

import numpy as np
import sep

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA
from proc_decam_dagster.pixels.smoothing import blur, gaussian_profile

sep.set_extract_pixstack(4_000_000)
sep.set_sub_object_limit(4096)


@dataclass(frozen=True)
class Detections:
    """Sources as they were detected.

    Attributes
    ----------
    sources : `numpy.ndarray`
        Structured array of `sep.extract`: ``x, y, a, b, theta, npix, flag …`` of the filtered image, ``peak`` and
        ``flux`` of the image itself.
    segmentation : `numpy.ndarray`, (ny, nx), int32
        Number of the source that each pixel belongs to, counted from 1; 0 is sky.
    """

    sources: np.ndarray
    segmentation: np.ndarray


def matched_filter(fwhm: float) -> np.ndarray:
    """Return one side of the profile of a Gaussian of a full width at half maximum in pixels, to two sigma."""
    sigma = fwhm / FWHM_PER_SIGMA
    return gaussian_profile(sigma, max(1, int(np.ceil(2 * sigma))))


@jit
def _measure(image, segmentation, flux, peak):  # pragma: no cover - compiled
    """Add up the pixels of each source, and look for its highest."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if segmentation[y, x] > 0:
                number = segmentation[y, x] - 1
                flux[number] += image[y, x]
                peak[number] = max(peak[number], image[y, x])


def detect(
    image: np.ndarray,
    noise: np.ndarray | float,
    excluded: np.ndarray | None,
    fwhm: float,
    snr: float = 5.0,
    min_pixels: int = 3,
    deblend: bool = True,
) -> Detections:
    """Find sources in a background-subtracted image.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
    noise : `numpy.ndarray`, (ny, nx), float32, or `float`
        Standard deviation of each pixel's sky noise.
    excluded : `numpy.ndarray`, (ny, nx), bool, optional
        Pixels to ignore.
    fwhm : `float`
        Seeing, pixels: the width of the matched filter.
    snr : `float`
        Threshold on the filtered image, in standard deviations of the *filtered* noise.
    min_pixels : `int`
        Connected pixels above the threshold that make a source.
    deblend : `bool`
        Split sources that touch.

    Raises
    ------
    MeasurementFailure
        If the detection overflows: the noise is far underestimated or the image is not of the sky.

    Notes
    -----
    The image is convolved here, which takes a tenth of `sep`'s time for it, and `sep` finds sources in the result. Like
    its ``filter_type="conv"`` this has its threshold relative to the unfiltered noise; its default ``"matched"`` filter
    finds several times as many sources at the same number, most of them noise.
    """
    profile = matched_filter(fwhm)
    power = profile[0] ** 2 + 2 * (profile[1:] ** 2).sum()  # of one axis
    image = np.ascontiguousarray(image, np.float32)
    noise = float(noise) if np.isscalar(noise) else np.ascontiguousarray(noise, np.float32)
    filtered = blur(image if excluded is None else np.where(excluded, np.float32(0), image), profile, mirrored=False)
    try:
        sources, segmentation = sep.extract(
            filtered, float(snr * power), err=noise, mask=excluded, minarea=min_pixels, filter_kernel=None,
            deblend_nthresh=32 if deblend else 1, deblend_cont=0.005 if deblend else 1.0, clean=True,
            segmentation_map=True,
        )  # fmt: skip
    except Exception as error:  # sep raises bare Exception with a text
        raise MeasurementFailure(f"detection at {snr} sigma overflowed: {error}", threshold=snr) from error
    flux, peak = np.zeros(len(sources)), np.full(len(sources), -np.inf)
    _measure(image, segmentation, flux, peak)
    sources["flux"], sources["peak"] = flux, peak
    return Detections(sources, segmentation)


def footprint_mask(shape: tuple[int, int], found: Detections, fwhm: float) -> np.ndarray:
    """Return a mask of the sources and of their wings, (ny, nx), bool.

    Each ellipse has the isophotal axes, widened by a radius that grows with the logarithm of peak over threshold as
    the wings of a star do.
    """
    excluded = found.segmentation > 0
    sources = found.sources
    if len(sources):
        brightness = np.clip(sources["peak"] / np.maximum(sources["thresh"], 1e-3), 1, None)
        # Moffat wings fall as r^-5 or slower: the isophote a hundred times fainter lies 2.5 times farther out.
        radius = np.sqrt(sources["npix"] / np.pi)
        grown = radius * (1.0 + 0.35 * np.clip(np.log10(brightness), 0, 4)) + fwhm
        flattening = np.sqrt(np.clip(sources["b"] / np.maximum(sources["a"], 1e-3), 0.2, 1))
        wings = np.zeros(shape, bool)
        sep.mask_ellipse(
            wings, sources["x"], sources["y"],
            grown / flattening, grown * flattening, sources["theta"], r=1.0,
        )  # fmt: skip
        excluded |= wings
    return excluded
