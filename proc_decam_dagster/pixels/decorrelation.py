"""Whitening of a difference image: the kernel that makes its noise the same at every spatial frequency."""

from functools import lru_cache

import numpy as np
from scipy.fft import fft2, fftshift, ifft2

from proc_decam_dagster.pixels.lanczos_run import ORDER, lanczos_weights

HALF = 15
"""Half width of the whitening kernel, pixels."""
GRID = 64
"""Frequencies on each axis."""
FLOOR = 0.04
"""Least power at any frequency, relative to zero frequency: bounds the amplification of what is not noise."""


@lru_cache(maxsize=4)
def resampled_power(times: int) -> np.ndarray:
    """Return the power of white noise after Lanczos-3 resampling, relative to zero frequency, (GRID, GRID).

    The mean over all sub-pixel phases; frequencies in the order of `numpy.fft`. Axes are taken to stay parallel, as
    DECam's do to within a degree.
    """
    weights = lanczos_weights((np.arange(64) + 0.5) / 64)
    offset = np.arange(1 - ORDER, ORDER + 1)
    phase = np.exp(-2j * np.pi * np.fft.fftfreq(GRID)[:, None] * offset)
    power = (np.abs(weights @ phase.T) ** 2).mean(0) ** times
    return np.outer(power, power)


def kernel_transform(kernel: np.ndarray) -> np.ndarray:
    """Return the transform of a small kernel on the frequency grid, its centre at the origin."""
    size = len(kernel)
    box = np.zeros((GRID, GRID))
    box[:size, :size] = kernel
    return fft2(np.roll(box, (-(size // 2), -(size // 2)), (0, 1)))


def whitening_kernel(kernel: np.ndarray, convolved_power: np.ndarray, other_power: np.ndarray) -> np.ndarray:
    """Return φ, unit sum, such that φ ⊗ (A ⊗ K - B) has white noise.

    The noise of ``A ⊗ K - B`` has the power ``a|K|² + b`` at each frequency. φ is the inverse square root of it
    (Kaiser 2004; Zackay, Ofek & Gal-Yam 2016; Reiss & Lupton, LSST DMTN-021), cut to ``2 HALF + 1`` pixels with a
    smooth edge.

    Parameters
    ----------
    kernel : `numpy.ndarray`, (size, size)
        Matching kernel K; its sum need not be 1.
    convolved_power, other_power : `numpy.ndarray`, (GRID, GRID)
        Noise power a of A, and b of B, by frequency: sky variance times `resampled_power`.
    """
    power = convolved_power * np.abs(kernel_transform(kernel)) ** 2 + other_power
    if not power[0, 0] > 0:
        raise ValueError("the noise of the two images must be positive")
    phi = fftshift(np.real(ifft2(1 / np.sqrt(np.maximum(power, FLOOR * power[0, 0])))))
    middle = GRID // 2
    phi = phi[middle - HALF : middle + HALF + 1, middle - HALF : middle + HALF + 1]
    edge = np.clip((HALF + 1 - np.abs(np.arange(-HALF, HALF + 1))) / 5, 0, 1)
    taper = np.sin(np.pi / 2 * edge) ** 2
    phi = phi * np.outer(taper, taper)
    return phi / phi.sum()


def noise_gains(
    kernel: np.ndarray, phi: np.ndarray, convolved_shape: np.ndarray, other_shape: np.ndarray
) -> tuple[float, float]:
    """Return the variance of a pixel of φ ⊗ (A ⊗ K - B) per unit variance of A, and of B.

    Parameters
    ----------
    kernel, phi : `numpy.ndarray`
    convolved_shape, other_shape : `numpy.ndarray`, (GRID, GRID)
        Noise power of each image relative to its variance.
    """
    whitening = np.abs(kernel_transform(phi)) ** 2
    matching = np.abs(kernel_transform(kernel)) ** 2
    return float((whitening * matching * convolved_shape).mean()), float((whitening * other_shape).mean())
