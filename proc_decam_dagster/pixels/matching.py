"""The fit of a matching kernel: one image's star stamps, convolved, made equal to another's."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.spatial import cKDTree

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.kernel_basis import KernelBasis, SpatialKernel
from proc_decam_dagster.pixels.psf_model import monomials

STAMP_HALF = 14
"""Half width of the compared part of a stamp, pixels."""
RELATIVE_FLOOR = 0.005
"""Relative error of a star's model, in the weights: otherwise the few brightest stars rule the fit."""
RIDGE = 1e-9
MOST_NOISE = 0.5
"""Largest part of any combination of parameters that is taken out of the normal equations as noise."""


@dataclass
class KernelFit:
    """A fitted kernel and how well it fits.

    Attributes
    ----------
    kernel : `SpatialKernel`
    positions : `numpy.ndarray`, (n, 2)
        Stamps used: x, y.
    chi2 : `numpy.ndarray`, (n,)
        Reduced χ² of each.
    n_rejected : `int`
    """

    kernel: SpatialKernel
    positions: np.ndarray
    chi2: np.ndarray
    n_rejected: int


def select_stamps(
    x: np.ndarray, y: np.ndarray, snr: np.ndarray, shape: tuple[int, int], *, min_snr: float = 30.0,
    cells: int = 32, per_cell: int = 6, separation: float = 8.0,
) -> np.ndarray:  # fmt: skip
    """Return the indices of the sources to match on: bright, apart, and spread over the image.

    Parameters
    ----------
    x, y, snr : `numpy.ndarray`, (n,)
        Positions and signal-to-noise ratios of sources that are fit to be used.
    shape : `tuple` [`int`, `int`]
        Image shape.
    min_snr : `float`
        Fainter ones only add noise.
    cells, per_cell : `int`
        The image is cut into about so many squares, and at most so many stars, the brightest, are taken from each.
    separation : `float`
        Pixels between two of them.
    """
    cell = np.sqrt(shape[0] * shape[1] / cells)
    order = [i for i in np.argsort(-snr) if snr[i] >= min_snr]
    taken: dict[tuple[int, int], int] = {}
    chosen: list[int] = []
    tree = cKDTree(np.stack([x, y], 1)) if len(x) else None
    blocked: set[int] = set()
    for i in order:
        place = int(x[i] // cell), int(y[i] // cell)
        if i in blocked or taken.get(place, 0) >= per_cell:
            continue
        taken[place] = taken.get(place, 0) + 1
        chosen.append(int(i))
        blocked.update(tree.query_ball_point((x[i], y[i]), separation))
    return np.array(chosen, int)


def _degree_for(n: int, wanted: int) -> int:
    """Return the degree of the kernel's variation that so many stamps can carry."""
    return min(wanted, 2 if n >= 40 else 1 if n >= 15 else 0)


def fit_kernel(
    sharp: np.ndarray, broad: np.ndarray, variance: np.ndarray, bad: np.ndarray, x: np.ndarray, y: np.ndarray,
    basis: KernelBasis, *, sharp_variance: np.ndarray, noise_gram: np.ndarray, degree: int = 2,
    background_degree: int = 1, n_sigma: float = 3.0, min_stamps: int = 3,
) -> KernelFit:  # fmt: skip
    """Fit K and a background so that ``sharp ⊗ K + background = broad`` on stamps.

    Parameters
    ----------
    sharp, broad : `numpy.ndarray`, (ny, nx)
        Images, finite wherever ``bad`` is not set.
    variance : `numpy.ndarray`, (ny, nx)
        Of their difference.
    bad : `numpy.ndarray`, (ny, nx), bool
    x, y : `numpy.ndarray`
        Centres of the stamps.
    basis : `KernelBasis`
    sharp_variance : `numpy.ndarray`, (ny, nx)
        Variance of the sharp image alone.
    noise_gram : `numpy.ndarray`, (n_basis, n_basis)
        Covariance of white noise of unit variance, resampled as the sharp image was, convolved with the basis images.
    degree, background_degree : `int`
        Of the variation over the image; the kernel's falls when there are few stamps.
    n_sigma : `float`
        Stamps whose χ² stands out by more are left out (variable stars, blends with bad pixels).
    min_stamps : `int`

    Raises
    ------
    MeasurementFailure
        If fewer than ``min_stamps`` stamps are usable.

    Notes
    -----
    The convolved image is noisy itself. In plain least squares its noise adds to the normal matrix, which draws the
    kernel's sum below 1 and makes it smoother than it should be; the expected part is taken out.
    """
    ny, nx = broad.shape
    reach = STAMP_HALF + basis.half
    normal, centres = [], []
    for xs, ys in zip(x, y):
        cx, cy = int(xs + 0.5), int(ys + 0.5)
        if cx < reach or cy < reach or cx + reach >= nx or cy + reach >= ny:
            continue
        outer = np.s_[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
        inner = np.s_[cy - STAMP_HALF : cy + STAMP_HALF + 1, cx - STAMP_HALF : cx + STAMP_HALF + 1]
        if bad[cy - 4 : cy + 5, cx - 4 : cx + 5].any() or bad[outer].mean() > 0.1:
            continue
        blocks = basis.convolve_stamp(np.where(bad[outer], 0, sharp[outer]))
        # a bad pixel of the sharp image spoils its neighbours' convolution: those within 3 pixels carry the most
        good = ~_grown(bad[outer], 3)[basis.half : -basis.half, basis.half : -basis.half]
        spread = variance[inner] + (RELATIVE_FLOOR * np.maximum(blocks[0], 0)) ** 2
        weight = np.where(good & (spread > 0), 1 / np.where(spread > 0, spread, 1), 0).ravel()
        design = np.concatenate([blocks.reshape(len(basis), -1), np.ones((1, weight.size))])
        data = np.where(good, broad[inner], 0).ravel()
        weighted = design * weight
        seen = np.where(good, sharp_variance[inner], 0).ravel() @ weight
        normal.append((weighted @ design.T, weighted @ data, seen, weight @ data**2, int(np.count_nonzero(weight))))
        centres.append((cx, cy))
    if len(normal) < min_stamps:
        raise MeasurementFailure(
            f"PSF matching found {len(normal)} usable star stamps of {len(x)}, and needs {min_stamps}",
            n_stamps=len(normal),
        )
    positions = np.array(centres, float)
    degree = _degree_for(len(normal), degree)
    u, v = 2 * positions[:, 0] / nx - 1, 2 * positions[:, 1] / ny - 1
    kernel_terms = monomials(u, v, degree).T
    background_terms = monomials(u, v, background_degree if len(normal) >= 6 else 0).T
    projections = [_projection(len(basis), f, g) for f, g in zip(kernel_terms, background_terms)]
    noise = np.pad(noise_gram, (0, 1))
    expanded = [(p.T @ m[0] @ p, m[1] @ p, p.T @ (m[2] * noise) @ p) for m, p in zip(normal, projections)]
    keep = np.ones(len(normal), bool)
    for _ in range(6):
        matrix = sum(e[0] for e, k in zip(expanded, keep) if k)
        vector = sum(e[1] for e, k in zip(expanded, keep) if k)
        solution = _solve(matrix, vector, sum(e[2] for e, k in zip(expanded, keep) if k))
        chi2 = np.array([
            (m[3] - 2 * local @ m[1] + local @ m[0] @ local) / max(m[4], 1)
            for m, local in ((m, p @ solution) for m, p in zip(normal, projections))
        ])  # fmt: skip
        middle = np.median(chi2[keep])
        spread = 1.4826 * np.median(np.abs(chi2[keep] - middle))
        new = chi2 < middle + n_sigma * spread + 0.1
        if (new == keep).all() or new.sum() < max(min_stamps, len(new) // 3):
            break
        keep = new
    n_terms, n_zero = kernel_terms.shape[1], len(basis) - 1
    kernel = SpatialKernel(
        basis, float(solution[0]), solution[1 : 1 + n_terms * n_zero].reshape(n_terms, n_zero),
        solution[1 + n_terms * n_zero :], degree, background_degree if len(normal) >= 6 else 0, (ny, nx),
    )  # fmt: skip
    return KernelFit(kernel, positions[keep], chi2[keep], int((~keep).sum()))


def _solve(matrix: np.ndarray, vector: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the solution of normal equations whose matrix contains noise of known expectation.

    In the combinations of parameters in which both are diagonal, the noise is taken out; where there is hardly more
    than noise, only a part of it, so that no combination is left without a restoring force.
    """
    # scaled to unit diagonal, so that the ridge means the same for every parameter
    scale = 1 / np.sqrt(np.maximum(matrix.diagonal(), 1e-30))
    ridge = RIDGE * len(matrix) * np.eye(len(matrix))
    signal, vectors = eigh(matrix * scale[:, None] * scale + ridge, noise * scale[:, None] * scale + ridge)
    signal = np.maximum(signal - 1, (1 - MOST_NOISE) * signal)
    return scale * (vectors @ ((vectors.T @ (vector * scale)) / signal))


def _projection(n_basis: int, f: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the matrix from spatial coefficients to a stamp's own: kernel sum, zero-sum basis images, background.

    ``f`` and ``g`` are the terms of the kernel's and of the background's polynomial there.
    """
    n = n_basis - 1
    project = np.zeros((n_basis + 1, 1 + len(f) * n + len(g)))
    project[0, 0] = 1
    project[1:-1, 1 : 1 + len(f) * n] = np.kron(f, np.eye(n))
    project[-1, 1 + len(f) * n :] = g
    return project


def _grown(bad: np.ndarray, by: int) -> np.ndarray:
    """Return a boolean stamp with its set pixels grown by a square."""
    if not bad.any():
        return bad
    from scipy.ndimage import binary_dilation

    return binary_dilation(bad, np.ones((2 * by + 1, 2 * by + 1), bool))
