"""Whitening of a difference image: the kernel that makes its noise the same at every spatial frequency."""

import numpy as np

HALF = 15
"""Half width of the whitening kernel, pixels."""
GRID = 64
MIN_RATIO = 0.05
"""Least variance of the image that was not convolved, relative to the other's: bounds the amplification."""


def whitening_kernel(kernel: np.ndarray, convolved_variance: float, other_variance: float) -> np.ndarray:
    """Return φ, unit sum, such that φ ⊗ (A ⊗ K - B) has white noise.

    The noise of ``A ⊗ K - B`` has the power ``a|K|² + b`` at each frequency (a, b: the images' variances, both white).
    φ is the inverse square root of it (Kaiser 2004; Zackay, Ofek & Gal-Yam 2016; Reiss & Lupton, LSST DMTN-021), cut to
    ``2 HALF + 1`` pixels with a smooth edge.

    Parameters
    ----------
    kernel : `numpy.ndarray`, (size, size)
        Matching kernel K; its sum need not be 1.
    convolved_variance, other_variance : `float`
        Sky variance of A, and of B, per pixel.
    """
    size = len(kernel)
    total = kernel.sum()
    if not (convolved_variance > 0 and other_variance >= 0):
        raise ValueError(f"variances must be positive: {convolved_variance}, {other_variance}")
    other_variance = max(other_variance, MIN_RATIO * convolved_variance * total**2)
    box = np.zeros((GRID, GRID))
    box[:size, :size] = kernel
    spectrum = np.abs(np.fft.fft2(box)) ** 2
    power = convolved_variance * spectrum + other_variance
    phi = np.fft.fftshift(np.real(np.fft.ifft2(1 / np.sqrt(power))))
    middle = GRID // 2
    phi = phi[middle - HALF : middle + HALF + 1, middle - HALF : middle + HALF + 1]
    edge = np.clip((HALF + 1 - np.abs(np.arange(-HALF, HALF + 1))) / 5, 0, 1)
    taper = np.sin(np.pi / 2 * edge) ** 2
    phi = phi * np.outer(taper, taper)
    return phi / phi.sum()
