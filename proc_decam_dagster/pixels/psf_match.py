"""PSF matching to a model: an image convolved so that its stars have one and the same PSF everywhere."""

import numpy as np

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import NODATA, UNUSABLE
from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA, PsfModel
from proc_decam_dagster.pixels.tiles import Tiles

HALF = 12
"""Half width of the matching kernel, pixels."""
GRID = 64
"""Frequencies on each axis."""
REGULARISATION = 1e-4
"""Least squared amplitude of the PSF's transform, relative to zero frequency, that is divided by."""
LEAST_LIGHT = 0.8
"""Least part of the kernel on pixels with a value."""


def gaussian(fwhm: float, size: int) -> np.ndarray:
    """Return a Gaussian of unit sum, (size, size), centred on the middle pixel."""
    offset = np.arange(size) - size // 2
    profile = np.exp(-0.5 * (offset * FWHM_PER_SIGMA / fwhm) ** 2)
    return np.outer(profile, profile) / profile.sum() ** 2


def _transform(stamp: np.ndarray) -> np.ndarray:
    size = len(stamp)
    box = np.zeros((GRID, GRID))
    box[:size, :size] = stamp
    return np.fft.rfft2(np.roll(box, (-(size // 2), -(size // 2)), (0, 1)))


def matching_kernel(psf: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the kernel, (2 HALF + 1, 2 HALF + 1), of unit sum that turns a PSF into a broader one.

    A division of their transforms, damped where the PSF has no power, cut with a smooth edge.
    """
    sharp = _transform(psf / psf.sum())
    power = np.abs(sharp) ** 2
    ratio = _transform(target) * sharp.conj() / np.maximum(power, REGULARISATION)
    kernel = np.fft.fftshift(np.fft.irfft2(ratio, (GRID, GRID)))
    middle = GRID // 2
    kernel = kernel[middle - HALF : middle + HALF + 1, middle - HALF : middle + HALF + 1]
    edge = np.clip((HALF + 1 - np.abs(np.arange(-HALF, HALF + 1))) / 4, 0, 1)
    taper = np.sin(np.pi / 2 * edge) ** 2
    kernel = kernel * np.outer(taper, taper)
    return kernel / kernel.sum()


def match_psf(image: MaskedImage, fwhm: float) -> MaskedImage:
    """Return an image whose PSF is a round Gaussian, the same everywhere.

    Parameters
    ----------
    image : `MaskedImage`
        With its PSF; left as it is.
    fwhm : `float`
        Full width at half maximum to be reached, pixels.

    Returns
    -------
    matched : `MaskedImage`
        Variances keep the meaning they have in warps: sums over many pixels have the noise that they say, single
        pixels less. Pixels of which more than a fifth would come from unusable ones are NODATA. Metadata:
        `matched_fwhm_px`.

    Raises
    ------
    MeasurementFailure
        If the image's PSF is broader than that: nothing would be gained but noise.
    """
    ny, nx = image.shape
    corners = [(x, y) for x in (0.1 * nx, 0.5 * nx, 0.9 * nx) for y in (0.1 * ny, 0.5 * ny, 0.9 * ny)]
    broadest = max(image.psf.fwhm(*corner) for corner in corners)
    if broadest > fwhm:
        raise MeasurementFailure(
            f"PSF of {broadest:.2f} pixels cannot be matched to one of {fwhm:.2f}", fwhm_px=broadest, target_px=fwhm
        )
    size = max(image.psf.size, 2 * int(np.ceil(1.5 * fwhm)) + 1)
    target = gaussian(fwhm, size)
    good = ((image.mask & UNUSABLE) == 0) & np.isfinite(image.image) & np.isfinite(image.variance)
    pixels, variance = (np.where(good, plane, 0).astype(np.float32) for plane in (image.image, image.variance))
    weight = good.astype(np.float32)
    out = MaskedImage(
        *(np.empty(image.shape, np.float32) for _ in range(2)), image.mask.copy(), image.wcs,
        PsfModel(target[None], 0, image.shape), image.flux_scale, image.metadata | {"matched_fwhm_px": float(fwhm)},
    )  # fmt: skip
    tiles = Tiles(image.shape, HALF)
    for tile in tiles:
        kernel = tiles.kernel_spectrum(matching_kernel(image.psf.kernel(*tile.centre), target))
        light, value, spread = (
            tiles.crop(tiles.spectrum(plane, tile) * kernel, tile) for plane in (weight, pixels, variance)
        )
        enough = light > LEAST_LIGHT
        light = np.where(enough, light, 1)
        out.image[tile.slices] = np.where(enough, value / light, np.nan)
        out.variance[tile.slices] = np.where(enough, np.maximum(spread, 0) / light, np.inf)
        mask = out.mask[tile.slices]
        # what was filled from its neighbours has a value now; the bits still say where it comes from
        mask[enough] &= ~NODATA
        mask[~enough] |= NODATA
    return out
