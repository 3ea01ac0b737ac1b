"""PSF models seen through a transformation: on another pixel grid, or convolved with a kernel."""

from collections.abc import Sequence

import numpy as np

from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.lanczos_run import ORDER, lanczos_weights
from proc_decam_dagster.pixels.psf_model import PsfModel, monomials


@jit
def _interpolate(kernel, base, weights, out):  # pragma: no cover - compiled
    """Write the weighted sums of the 6×6 pixels around each position, (2, ny, nx) as x, y; beyond the stamp is zero."""
    ny, nx = kernel.shape
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            x0, y0, total = base[0, j, i] + 1 - ORDER, base[1, j, i] + 1 - ORDER, 0.0
            for b in range(max(0, -y0), min(2 * ORDER, ny - y0)):
                line = 0.0
                for a in range(max(0, -x0), min(2 * ORDER, nx - x0)):
                    line += weights[0, j, i, a] * kernel[y0 + b, x0 + a]
                total += weights[1, j, i, b] * line
            out[j, i] = total


def resample_psf(kernel: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return a centred PSF stamp on a linearly transformed pixel grid; its sum is kept.

    Parameters
    ----------
    kernel : `numpy.ndarray`, (size, size)
        PSF centred on the middle pixel.
    matrix : `numpy.ndarray`, (2, 2)
        Input pixels (x, y) per output pixel (x, y): ``input = matrix @ output``, both from the centre.
    """
    half = kernel.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    source = np.einsum("ij,jyx->iyx", np.asarray(matrix, float), np.stack([x, y]).astype(float)) + half
    base = np.floor(source).astype(int)
    weights = lanczos_weights(source - base)
    out = np.empty(kernel.shape)
    _interpolate(np.asarray(kernel, float), base, weights, out)
    return out * (kernel.sum() / out.sum())


def fit_psf_model(
    positions: np.ndarray, stamps: Sequence[np.ndarray], shape: tuple[int, int], degree: int = 2
) -> PsfModel:
    """Return the PSF model whose pixels are polynomials through stamps at given positions.

    The degree falls where there are fewer than 1.5 times as many stamps as terms, or where they are all on one line.

    Parameters
    ----------
    positions : `numpy.ndarray`, (n, 2)
        Pixel x, y.
    stamps : sequence of `numpy.ndarray`, (size, size)
        PSFs centred on the middle pixel; smaller ones are padded with zeros.
    shape : `tuple` [`int`, `int`]
        Shape of the image that the model belongs to.
    """
    size = max(len(stamp) for stamp in stamps)
    values = np.stack([np.pad(stamp, (size - len(stamp)) // 2) for stamp in stamps]).reshape(len(stamps), -1)
    ny, nx = shape
    u, v = positions[:, 0] / nx - 0.5, positions[:, 1] / ny - 0.5
    while True:
        terms = monomials(u, v, degree).T
        enough = len(stamps) >= 1.5 * terms.shape[1]
        if degree == 0 or (enough and np.linalg.cond(terms) < 1e4):
            break
        degree -= 1
    coefficients = np.linalg.lstsq(terms, values, rcond=None)[0]
    return PsfModel(coefficients.reshape(-1, size, size), degree, shape)


def local_matrices(wcs_in, wcs_out, points: np.ndarray, reach: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Return where output pixels lie in the input, and the local linear transformation there.

    Parameters
    ----------
    points : `numpy.ndarray`, (n, 2)
        Output pixel x, y.
    reach : `float`
        Output pixels over which differences are taken.

    Returns
    -------
    centres : `numpy.ndarray`, (n, 2)
        Input pixel x, y.
    matrices : `numpy.ndarray`, (n, 2, 2)
        Input pixels per output pixel.
    """
    around = reach * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], float)
    star = points[:, None] + around
    sky = wcs_out.all_pix2world(*star.reshape(-1, 2).T, 0)
    inside = np.stack(wcs_in.all_world2pix(*sky, 0, quiet=True), 1).reshape(star.shape)
    centre, right, left, up, down = inside.transpose(1, 0, 2)
    return centre, np.stack([(right - left), (up - down)], -1) / (2 * reach)
