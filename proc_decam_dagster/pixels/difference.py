"""Difference imaging: a template matched to a science image and subtracted, with white noise and a known PSF."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from proc_decam_dagster.pixels.decorrelation import HALF as WHITENING_HALF
from proc_decam_dagster.pixels.decorrelation import kernel_transform, noise_gains, resampled_power, whitening_kernel
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.kernel_basis import KernelBasis
from proc_decam_dagster.pixels.mask import EDGE, NODATA, SAT, SUSPECT, UNUSABLE, extent, grown, unusable
from proc_decam_dagster.pixels.matching import fit_kernel, select_stamps
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA, PsfModel
from proc_decam_dagster.pixels.psf_transform import fit_psf_model
from proc_decam_dagster.pixels.smoothing import block_sums, gaussian
from proc_decam_dagster.pixels.tiles import Tiles, convolve

BRIGHT_STAR_ERROR = 0.012
"""What PSF matching leaves of a bright star, relative to its pixels: enters the variance."""
WING_ERROR, WING_FWHM = 0.05, 1.5
"""The same of its wings, where neither PSF model nor kernel reach: relative to the star smoothed by a Gaussian whose
standard deviation is so many times the FWHM. It matters for stars a thousand times brighter than the noise only."""
WING_BLOCK = 4
"""Width, in pixels, of the blocks in which such wings are smoothed."""
SATURATION_GROWTH = 2
CONVOLUTION_GROWTH = 2


@dataclass(frozen=True)
class SubtractionSettings:
    """Choices of `subtract`.

    Attributes
    ----------
    kernel_degree, background_degree : `int`
        Of the variation over the image.
    min_snr : `float`
        Of the stars matched on.
    bright_star_error : `float`
        Relative error of the matched template, added to the variance.
    max_flux_mismatch : `float`
        Largest departure of the kernel's sum from 1: beyond it a photometric calibration is wrong.
    direction : `str`
        ``auto`` convolves the sharper image; ``template`` and ``science`` force which.
    template_resamplings : `int`
        How often the template's pixels were resampled: onto its patch, and onto the science image.
    """

    kernel_degree: int = 2
    background_degree: int = 1
    min_snr: float = 30.0
    bright_star_error: float = BRIGHT_STAR_ERROR
    max_flux_mismatch: float = 0.3
    direction: str = "auto"
    template_resamplings: int = 2


@dataclass(frozen=True)
class Noise:
    """Sky noise of the sharp and the broad image: variance a pixel, and its power by frequency relative to that."""

    sharp: float
    broad: float
    sharp_shape: np.ndarray
    broad_shape: np.ndarray

    def whitening(self, kernel: np.ndarray) -> np.ndarray:
        """Return the kernel that whitens ``sharp ⊗ kernel - broad``."""
        return whitening_kernel(kernel, self.sharp * self.sharp_shape, self.broad * self.broad_shape)


def basis_noise(basis: KernelBasis, shape: np.ndarray) -> np.ndarray:
    """Return the covariance, per unit variance, of an image's noise convolved with each basis image, (n, n)."""
    spectra = np.array([kernel_transform(image) for image in basis.images]).reshape(len(basis), -1)
    return np.real((spectra * shape.ravel()) @ spectra.conj().T) / shape.size


def calibrated(image: MaskedImage) -> MaskedImage:
    """Return an image in nJy."""
    scale = np.float32(image.flux_scale)
    if not np.isfinite(scale) or scale <= 0:
        raise ValueError(f"image has no photometric calibration: flux_scale is {image.flux_scale}")
    if scale == 1:
        return image
    return MaskedImage(
        image.image * scale, image.variance * scale**2, image.mask, image.wcs, image.psf, 1.0, dict(image.metadata)
    )


def spoilt_pixels(image: MaskedImage) -> np.ndarray:
    """Return which pixels cannot be used: masked, without a value, or right beside saturated ones."""
    bad = unusable(image.image, image.variance, image.mask)
    saturated = (image.mask & SAT) != 0
    if saturated.any():
        bad |= grown(saturated, SATURATION_GROWTH)
    return bad


def choose_direction(science_fwhm: float, template_fwhm: float) -> str:
    """Return which image is to be convolved, ``template`` or ``science``: the one with the sharper PSF."""
    return "template" if science_fwhm >= template_fwhm else "science"


def subtract(
    science: MaskedImage, template: MaskedImage, x: np.ndarray, y: np.ndarray, snr: np.ndarray,
    settings: SubtractionSettings | None = None,
) -> MaskedImage:  # fmt: skip
    """Subtract a template from a science image.

    Parameters
    ----------
    science : `MaskedImage`
        Calibrated, background-subtracted.
    template : `MaskedImage`
        On the science image's pixels, in nJy.
    x, y, snr : `numpy.ndarray`, (n,)
        Stars to match on: position and signal-to-noise ratio.
    settings : `SubtractionSettings`, optional

    Returns
    -------
    difference : `MaskedImage`
        Science minus template in nJy, on the science image's flux scale; its PSF gives a transient's total flux.
        NaN and NODATA where the template has no value. Metadata: `direction` (which image was convolved),
        `kernel_sum`, `n_stamps`, `n_stamps_rejected`, `match_chi2`, `pixel_noise_scale` (by which the variance was
        scaled), `psf_flux_noise_scale` (by which a PSF flux's error must be), widths of the PSFs.

    Raises
    ------
    MeasurementFailure
        If there are too few stars, or if the fluxes of the two images do not agree at all.

    Notes
    -----
    The sharper image is convolved with a kernel fitted on stars (Alard & Lupton 1998), then the difference is
    whitened (`decorrelation`), block by block of tiles. The variance is propagated through both, then scaled to the
    scatter measured on blank sky, since a warped template's noise is not white.
    """
    settings = settings or SubtractionSettings()
    science, template = calibrated(science), calibrated(template)
    if science.shape != template.shape:
        raise ValueError(f"science image {science.shape} and template {template.shape} differ in shape")
    bad_science, bad_template = spoilt_pixels(science), spoilt_pixels(template)
    if (bad_science | bad_template).mean() > 0.98:
        raise MeasurementFailure("science image and template have no usable pixels in common")
    # a template that reaches a part of the image says nothing of its PSF, nor of the kernel, elsewhere
    box = extent(~(bad_science | bad_template))
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    fwhm = {"science": science.psf.fwhm(*middle), "template": template.psf.fwhm(*middle)}
    direction = settings.direction
    if direction == "auto":
        direction = choose_direction(fwhm["science"], fwhm["template"])
    sharp_fwhm, broad_fwhm = fwhm[direction], fwhm["science" if direction == "template" else "template"]
    sharp, broad = (template, science) if direction == "template" else (science, template)
    bad_sharp, bad_broad = (bad_template, bad_science) if direction == "template" else (bad_science, bad_template)
    filled_sharp, filled_broad = _fill(sharp, bad_sharp, broad, bad_broad), _fill(broad, bad_broad, sharp, bad_sharp)
    shape_template, shape_science = resampled_power(settings.template_resamplings), resampled_power(0)
    shapes = (shape_template, shape_science) if direction == "template" else (shape_science, shape_template)
    noise = Noise(_sky_variance(sharp, bad_sharp), _sky_variance(broad, bad_broad), *shapes)

    ny, nx = science.shape
    basis = KernelBasis.for_seeing(sharp_fwhm, broad_fwhm)
    variance = sharp.variance + broad.variance
    variance[bad_sharp | bad_broad] = 0
    suspect = ((science.mask | template.mask) & SUSPECT) != 0
    cx = np.clip(np.asarray(x, float) + 0.5, 0, nx - 1).astype(int)
    cy = np.clip(np.asarray(y, float) + 0.5, 0, ny - 1).astype(int)
    fit_for = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & np.isfinite(snr) & ~suspect[cy, cx])
    chosen = fit_for[select_stamps(x[fit_for], y[fit_for], snr[fit_for], (ny, nx), min_snr=settings.min_snr)]
    fit = fit_kernel(
        filled_sharp, filled_broad, variance, bad_sharp | bad_broad, x[chosen], y[chosen], basis,
        degree=settings.kernel_degree, background_degree=settings.background_degree,
        sharp_variance=sharp.variance, noise_gram=basis_noise(basis, noise.sharp_shape),
    )  # fmt: skip
    kernel = fit.kernel
    if abs(kernel.total - 1) > settings.max_flux_mismatch:
        raise MeasurementFailure(
            f"fluxes of science image and template disagree: matching kernel of sum {kernel.total:.3f}, not near 1",
            kernel_sum=kernel.total,
        )

    model = convolve(filled_sharp, kernel.kernel, basis.half)
    # the residual is (science - template), or minus that on the template's flux scale
    unit = 1.0 if direction == "template" else -1.0 / kernel.total
    # small defects were filled with the other image's pixels; beside large ones the convolution is wrong
    large = bad_sharp & (((sharp.mask & (SAT | EDGE | NODATA)) != 0) | ~np.isfinite(sharp.image))
    spoilt = bad_broad | bad_sharp | grown(large, CONVOLUTION_GROWTH)
    residual, brightness = np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32)
    light = model if direction == "template" else filled_broad
    _take_residual(
        filled_broad, model, kernel.background_image(), light, spoilt, np.float32(unit), residual, brightness
    )
    image, spread = _whiten(residual, kernel.kernel, sharp, broad, noise)
    rings = gaussian(brightness**2, broad_fwhm / FWHM_PER_SIGMA / np.sqrt(2), truncate=3.0)
    wings = _wings(brightness, WING_FWHM * broad_fwhm)
    errors = np.float32(unit**2), np.float32(settings.bright_star_error**2), np.float32(WING_ERROR**2)
    mask, blank = science.mask | template.mask, np.empty((ny, nx), bool)
    bits = np.int32(UNUSABLE), np.int32(NODATA)
    _finish(image, spread, mask, bits, errors, rings, wings, spoilt, brightness, blank)
    noise_scale = blank_sky_scatter(image, spread, blank)
    spread *= np.float32(noise_scale**2)
    psf = _difference_psf(science.psf, kernel.kernel, direction, noise, box)
    difference = MaskedImage(image, spread, mask, science.wcs, psf, 1.0)
    difference.metadata = science.metadata | {
        "direction": direction,
        "kernel_sum": kernel.total,
        "n_stamps": len(fit.positions),
        "n_stamps_rejected": fit.n_rejected,
        "match_chi2": float(np.median(fit.chi2)),
        "pixel_noise_scale": noise_scale,
        "psf_flux_noise_scale": psf_flux_scatter(difference, blank),
        "science_fwhm_px": fwhm["science"],
        "template_fwhm_px": fwhm["template"],
        "difference_fwhm_px": psf.fwhm(*middle),
        "template_noise_ratio": float(np.sqrt(noise.sharp / noise.broad) ** (1 if direction == "template" else -1)),
        "covered_fraction": float(1 - (template.mask & NODATA != 0).mean()),
    }
    return difference


def psf_flux_scatter(difference: MaskedImage, blank: np.ndarray, per_axis: int = 40) -> float:
    """Return the robust scatter of PSF fluxes on blank sky in units of their errors; 1 where there is too little."""
    ny, nx = difference.shape
    half = difference.psf.size // 2
    x, y = (a.ravel().astype(int) for a in np.meshgrid(
        np.linspace(half, nx - 1 - half, per_axis), np.linspace(half, ny - 1 - half, per_axis)
    ))  # fmt: skip
    chosen = blank[y, x]
    fit = psf_fluxes(difference, x[chosen], y[chosen], min_usable=0.95)
    pulls = fit.flux / fit.flux_err
    pulls = pulls[np.isfinite(pulls)]
    if len(pulls) < 100:
        return 1.0
    return float(1.4826 * np.median(np.abs(pulls - np.median(pulls))))


def blank_sky_scatter(image: np.ndarray, variance: np.ndarray, blank: np.ndarray) -> float:
    """Return the robust scatter of pixels in units of their errors, over blank sky; 1 where there is too little."""
    for step in (3, 1):  # of a small image all are needed
        chosen = blank[::step, ::step]
        pulls = image[::step, ::step][chosen] / np.sqrt(variance[::step, ::step][chosen])
        pulls = pulls[np.isfinite(pulls)]
        if len(pulls) >= 500:
            return float(1.4826 * np.median(np.abs(pulls - np.median(pulls))))
    return 1.0


def _fill(image: MaskedImage, bad: np.ndarray, other: MaskedImage, bad_other: np.ndarray) -> np.ndarray:
    """Return the pixels, bad ones replaced by the other image's, or by zero where that is bad too."""
    filled = np.array(image.image, np.float32)
    filled[bad] = np.where(bad_other[bad], np.float32(0), other.image[bad])
    return filled


@jit
def _take_residual(broad, model, background, light, spoilt, unit, residual, brightness):  # pragma: no cover - compiled
    """Write ``broad - model - background`` times a unit, 0 where that is spoilt, and the light that is subtracted."""
    zero, size = np.float32(0), abs(unit)
    for y in range(residual.shape[0]):
        for x in range(residual.shape[1]):
            value = (broad[y, x] - model[y, x] - background[y, x]) * unit
            residual[y, x] = zero if spoilt[y, x] else value
            brightness[y, x] = max(light[y, x], zero) * size


@jit
def _finish(image, spread, mask, bits, errors, rings, wings, spoilt, brightness, blank):  # pragma: no cover - compiled
    """Add to the variance what PSF matching leaves of stars; mark what has no value; write which pixels are blank sky.

    What it leaves is rings of both signs, largest on the flanks and beyond: ``rings`` are the squares of the pixels
    smoothed by a Gaussian with half the PSF's second moments, which fall off less steeply than the star's own. Blank
    is what lies far below the noise, not chosen by its own: no brighter than the template's, which is a part of it.
    """
    unit, star_error, wing_error = errors
    unusable, nodata = bits
    for y in range(image.shape[0]):
        coarse = wings[y // WING_BLOCK]
        for x in range(image.shape[1]):
            wing = coarse[x // WING_BLOCK]
            total = spread[y, x] * unit + star_error * rings[y, x] + wing_error * wing * wing
            flags = mask[y, x]
            flags |= nodata if spoilt[y, x] & ((flags & unusable) == 0) else np.int32(0)
            lost = (flags & nodata) != 0
            mask[y, x] = flags
            image[y, x] = np.float32(np.nan) if lost else image[y, x]
            spread[y, x] = np.float32(np.inf) if lost else total
            blank[y, x] = ~spoilt[y, x] & ~lost & (brightness[y, x] < np.float32(3) * np.sqrt(total))


def _wings(brightness: np.ndarray, sigma: float) -> np.ndarray:
    """Return an image smoothed by a Gaussian many pixels wide, as means over blocks of `WING_BLOCK` pixels a side."""
    edges = tuple(-n % WING_BLOCK for n in brightness.shape)
    padded = np.pad(brightness, ((0, edges[0]), (0, edges[1]))) if any(edges) else brightness
    return gaussian_filter(block_sums(padded, WING_BLOCK) / WING_BLOCK**2, sigma / WING_BLOCK, truncate=3.5)


def _sky_variance(image: MaskedImage, bad: np.ndarray) -> float:
    """Return the median variance of the usable pixels."""
    return float(np.median(image.variance[::5, ::5][~bad[::5, ::5]]))


def _whiten(
    residual: np.ndarray, kernel: Callable[[float, float], np.ndarray], sharp: MaskedImage, broad: MaskedImage,
    noise: Noise,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the whitened residual and its variance, before any change of unit.

    Both kernels have unit sum, so that a star's photon noise, which comes from few pixels, counts fully in a flux,
    though single pixels of convolved sky are quieter: the images' variances are added, then scaled to the sky's.
    """
    image, spread = np.empty_like(residual), np.empty_like(residual)
    tiles = Tiles(residual.shape, WHITENING_HALF)

    @cache
    def whitening(x: float, y: float) -> tuple[np.ndarray, np.float32]:
        match = kernel(x, y)
        phi = noise.whitening(match)
        gain_sharp, gain_broad = noise_gains(match, phi, noise.sharp_shape, noise.broad_shape)
        gain = (gain_sharp * noise.sharp + gain_broad * noise.broad) / (noise.sharp + noise.broad)
        return tiles.kernel_spectrum(phi), np.float32(gain)

    for tile in tiles:
        phi, gain = whitening(*tiles.block(tile))
        image[tile.slices] = tiles.crop(tiles.spectrum(residual, tile) * phi, tile)
        spread[tile.slices] = gain * (sharp.variance[tile.slices] + broad.variance[tile.slices])
    return image, spread


def _difference_psf(
    science: PsfModel, kernel: Callable[[float, float], np.ndarray], direction: str, noise: Noise,
    box: tuple[int, int, int, int],
) -> PsfModel:  # fmt: skip
    """Return the PSF of a transient in the difference image, from samples in the box (x0, y0, x1, y1)."""
    fractions = (np.arange(4) + 0.5) / 4
    x, y = (low + fractions * (high - low) for low, high in zip(box[:2], box[2:]))
    positions = np.array([(u, v) for v in y for u in x])
    stamps = []
    for x, y in positions:
        match = kernel(x, y)
        stamp = np.pad(science.kernel(x, y), 0 if direction == "template" else 4)
        if direction == "science":
            stamp = fftconvolve(stamp, match / match.sum(), mode="same")
        stamps.append(fftconvolve(stamp, noise.whitening(match), mode="same"))
    return fit_psf_model(positions, stamps, science.shape)
