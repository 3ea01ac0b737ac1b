"""Matching kernels: a basis of Gaussians times polynomials, and a kernel of them that varies over the image."""

from dataclasses import dataclass, field

import numpy as np

from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA, monomials


@dataclass
class KernelBasis:
    """Gaussians of several widths times polynomials x^p y^q (Alard & Lupton 1998).

    The first image has unit sum, all others zero sum, so that the kernel's sum is the first coefficient alone.

    Attributes
    ----------
    sigmas : `tuple` [`float`, …]
        Widths of the Gaussians, pixels.
    degrees : `tuple` [`int`, …]
        Highest p + q for each width.
    half : `int`
        Half width of the kernel images.
    """

    sigmas: tuple[float, ...] = (0.7, 1.5, 3.0)
    degrees: tuple[int, ...] = (4, 3, 2)
    half: int = 10
    factors: np.ndarray = field(init=False, repr=False)
    pairs: np.ndarray = field(init=False, repr=False)
    mixing: np.ndarray = field(init=False, repr=False)
    images: np.ndarray = field(init=False, repr=False)
    _bands_of: dict[int, np.ndarray] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        offset = np.arange(-self.half, self.half + 1, dtype=float)
        factors, pairs = [], []
        for sigma, degree in zip(self.sigmas, self.degrees):
            first = len(factors)
            factors += [np.exp(-(offset**2) / (2 * sigma**2)) * (offset / sigma) ** p for p in range(degree + 1)]
            pairs += [(first + q, first + p) for p in range(degree + 1) for q in range(degree + 1 - p)]
        self.factors, self.pairs = np.array(factors), np.array(pairs)
        raw = self.factors[self.pairs[:, 0]][:, :, None] * self.factors[self.pairs[:, 1]][:, None, :]
        sums = raw.sum((1, 2))
        mixing = np.eye(len(raw))
        mixing[0, 0] = 1 / sums[0]
        mixing[1:, 0] = -sums[1:] / sums[0]
        scale = np.sqrt((np.tensordot(mixing, raw, 1) ** 2).sum((1, 2)))
        scale[0] = 1
        self.mixing = mixing / scale[:, None]
        self.images = np.tensordot(self.mixing, raw, 1)

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def for_seeing(cls, sharp_fwhm: float, broad_fwhm: float) -> "KernelBasis":
        """Return the basis that turns a sharp PSF into a broad one (full widths at half maximum in pixels)."""
        needed = np.sqrt(max(broad_fwhm**2 - sharp_fwhm**2, 0.0)) / FWHM_PER_SIGMA
        middle, wide = max(1.5, 0.8 * needed), max(3.0, 1.6 * needed)
        return cls((0.7, middle, wide), (4, 3, 2), int(np.clip(np.ceil(3.3 * wide), 10, 16)))

    def convolve_stamp(self, stamp: np.ndarray) -> np.ndarray:
        """Return a stamp convolved with every basis image, (n_basis, ny - 2 half, nx - 2 half).

        Separable: two matrix products for each image.
        """
        ny, nx = stamp.shape
        along_rows = stamp @ self._bands(nx)
        down = self._bands(ny).transpose(0, 2, 1)
        raw = np.matmul(down[self.pairs[:, 0]], along_rows[self.pairs[:, 1]])
        return np.tensordot(self.mixing, raw, 1)

    def _bands(self, n: int) -> np.ndarray:
        """Return the matrices that convolve ``n`` values with each factor, (n_factors, n, n - 2 half)."""
        if n not in self._bands_of:
            size = 2 * self.half + 1
            matrix, rows = np.zeros((len(self.factors), n, n - size + 1)), np.arange(n - size + 1)
            for k in range(size):
                matrix[:, rows + k, rows] = self.factors[:, size - 1 - k, None]
            self._bands_of[n] = matrix
        return self._bands_of[n]


@dataclass
class SpatialKernel:
    """A matching kernel that varies over an image, and a background that does.

    Attributes
    ----------
    basis : `KernelBasis`
    total : `float`
        Sum of the kernel, the same everywhere: the ratio of the flux scales.
    coefficients : `numpy.ndarray`, (n_terms, n_basis - 1)
        Coefficients of the zero-sum basis images, each a polynomial of normalised position.
    background : `numpy.ndarray`, (n_background_terms,)
        Polynomial of the background difference.
    degree, background_degree : `int`
    shape : `tuple` [`int`, `int`]
        Image that positions are normalised to.
    """

    basis: KernelBasis
    total: float
    coefficients: np.ndarray
    background: np.ndarray
    degree: int
    background_degree: int
    shape: tuple[int, int]

    def terms(self, x: float, y: float, degree: int) -> np.ndarray:
        """Return the monomials at a pixel position, normalised to -1…1."""
        ny, nx = self.shape
        return monomials(2 * x / nx - 1, 2 * y / ny - 1, degree)

    def kernel(self, x: float, y: float) -> np.ndarray:
        """Return the kernel at a position, (2 half + 1, 2 half + 1)."""
        weights = np.concatenate([[self.total], self.terms(x, y, self.degree) @ self.coefficients])
        return np.tensordot(weights, self.basis.images, 1)

    def background_image(self) -> np.ndarray:
        """Return the background, (ny, nx), float32."""
        ny, nx = self.shape
        u, v = 2 * np.arange(nx) / nx - 1, 2 * np.arange(ny) / ny - 1
        powers = [(n - k, k) for n in range(self.background_degree + 1) for k in range(n + 1)]
        across = np.array([term * u**k for term, (k, _) in zip(self.background, powers)], np.float32)
        down = np.array([v**k for _, k in powers], np.float32)
        return down.T @ across
