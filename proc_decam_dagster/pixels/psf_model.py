"""A point-spread function on a pixel grid whose every pixel is a polynomial of position on the detector."""

from dataclasses import dataclass

import numpy as np

AB_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy (Oke & Gunn 1983)."""


def monomials(u, v, degree: int) -> np.ndarray:
    """Return the monomials ``u**(n-k) v**k`` for n ≤ degree, shape (n_terms, …)."""
    u, v = np.asarray(u, float), np.asarray(v, float)
    return np.stack([u ** (n - k) * v**k for n in range(degree + 1) for k in range(n + 1)])


def lanczos_weights(fraction: float, order: int = 4) -> np.ndarray:
    """Return the ``2*order`` normalised Lanczos weights that interpolate at ``fraction`` (0…1) past tap ``order-1``."""
    offset = np.arange(1 - order, order + 1) - fraction
    weights = np.sinc(offset) * np.sinc(offset / order) * (np.abs(offset) < order)
    return weights / weights.sum()


def shift(stamp: np.ndarray, dx: float, dy: float, order: int = 4) -> np.ndarray:
    """Return a stamp moved by (``dx``, ``dy``) pixels, by separable Lanczos interpolation; zero comes in at the edges."""
    for axis, delta in ((1, dx), (0, dy)):
        whole = int(np.floor(-delta))
        taps = lanczos_weights(-delta - whole, order)
        pad = abs(whole) + order
        widths = [(0, 0), (0, 0)]
        widths[axis] = (pad, pad)
        padded = np.pad(stamp, widths)
        size = stamp.shape[axis]
        stamp = sum(
            weight * np.take(padded, np.arange(size) + pad + whole + tap + 1 - order, axis=axis)
            for tap, weight in enumerate(taps)
        )
    return stamp


@dataclass
class PsfModel:
    """Pixel-grid PSF, varying over the detector.

    Attributes
    ----------
    coefficients : `numpy.ndarray`, (n_terms, size, size)
        Polynomial coefficients of each pixel; ``size`` is odd and the star is centred on the middle pixel.
    degree : `int`
        Degree of the polynomial in normalised position.
    shape : `tuple` [`int`, `int`]
        Shape (ny, nx) of the image that it belongs to; positions are normalised to ``x/nx - 0.5``, ``y/ny - 0.5``.
    """

    coefficients: np.ndarray
    degree: int
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Width and height of a stamp, in pixels."""
        return self.coefficients.shape[-1]

    def kernel(self, x: float, y: float) -> np.ndarray:
        """Return the PSF at a position, (size, size), centred on the middle pixel, with unit sum."""
        ny, nx = self.shape
        terms = monomials(x / nx - 0.5, y / ny - 0.5, self.degree)
        image = np.tensordot(terms, self.coefficients, 1)
        return image / image.sum()

    def stamp(self, x: float, y: float) -> np.ndarray:
        """Return the image of a star of unit flux at a position, (size, size).

        Its middle pixel is the pixel ``(round(x), round(y))`` of the image.
        """
        return shift(self.kernel(x, y), x - np.floor(x + 0.5), y - np.floor(y + 0.5))

    def fwhm(self, x: float, y: float) -> float:
        """Return the full width at half maximum at a position, in pixels: of the circle with the half-maximum area."""
        from scipy.ndimage import zoom

        fine = zoom(self.kernel(x, y), 8, order=3)
        scale = (fine.shape[0] - 1) / (self.size - 1)
        return float(2 * np.sqrt((fine > fine.max() / 2).sum() / np.pi) / scale)

    def effective_area(self, x: float, y: float) -> float:
        """Return ``1/Σp²``, the number of pixels whose background noise a PSF flux sees."""
        return float(1 / (self.kernel(x, y) ** 2).sum())
