"""Diffuse light of galaxies larger than the background's mesh, found against a smooth sky: it is not sky."""

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, label

BIN = 16
FAINT = 0.004
"""Excess over the smooth sky, relative to it, at which a galaxy's light is masked."""

PEAK = 0.02
"""Least excess somewhere in it: the sky's own structure (fringes, ghosts, illumination) stays below."""

SMALLEST = 30
"""Bins: what is smaller is a source that the usual footprints cover."""

LARGEST = 0.45
"""Fraction of the image: what is larger is structure of the sky."""

MARGIN = 4
"""Bins by which a region is grown."""


def smooth_sky(mesh: np.ndarray) -> np.ndarray:
    """Return a quadratic through the low values of a mesh, at its nodes: galaxies are above it.

    Parameters
    ----------
    mesh : `numpy.ndarray`, (nodes in y, nodes in x)
    """
    y, x = (g.ravel() for g in np.meshgrid(*(np.linspace(-1, 1, n) for n in mesh.shape), indexing="ij"))
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], -1)
    values, kept = mesh.ravel(), np.ones(mesh.size, bool)
    for _ in range(12):
        fit = terms @ np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        residual = values - fit
        spread = max(1.4826 * np.median(np.abs(residual[kept] - np.median(residual[kept]))), 1e-6 * np.abs(fit).max())
        now = (residual < 2 * spread) & (residual > -4 * spread)
        if now.sum() < 12 or (now == kept).all():
            break
        kept = now
    return fit.reshape(mesh.shape)


def diffuse_mask(image: np.ndarray, excluded: np.ndarray, mesh: np.ndarray, noise: float) -> np.ndarray | None:
    """Return where a big galaxy's light lies, (ny, nx), bool; `None` if there is none.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Sky in.
    excluded : `numpy.ndarray`, (ny, nx), bool
        Pixels that are not looked at.
    mesh : `numpy.ndarray`
        Background of the image in boxes, galaxies in it.
    noise : `float`
        Standard deviation of a sky pixel.
    """
    ny, nx = image.shape
    if min(mesh.shape) < 4:
        return None
    sky = smooth_sky(mesh)
    level = float(np.median(sky))
    # Where even the mesh, which follows a galaxy, stays near the smooth sky, there is none.
    if level <= 0 or (mesh - sky).max() < PEAK * level:
        return None
    shape = ny // BIN, nx // BIN
    cut = np.s_[: shape[0] * BIN, : shape[1] * BIN]
    good = ~excluded[cut]
    blocks = (shape[0], BIN, shape[1], BIN)
    count = good.reshape(blocks).sum((1, 3))
    total = np.where(good, image[cut], 0).reshape(blocks).sum((1, 3), dtype=np.float64)
    rows = np.minimum((np.arange(shape[0]) * mesh.shape[0]) // shape[0], mesh.shape[0] - 1)
    columns = np.minimum((np.arange(shape[1]) * mesh.shape[1]) // shape[1], mesh.shape[1] - 1)
    excess = total / np.maximum(count, 1) - sky[np.ix_(rows, columns)]
    # A bin without sky pixels lies under a source: it belongs to whatever is around it.
    above = (excess > np.maximum(FAINT * level, 4 * noise / np.sqrt(np.maximum(count, 1)))) | (count < BIN)
    regions, _ = label(above)
    chosen = np.zeros(shape, bool)
    for number, where in enumerate(find_objects(regions), start=1):
        inside = regions[where] == number
        seen = inside & (count[where] >= BIN)
        if SMALLEST <= inside.sum() < LARGEST * above.size and seen.any() and excess[where][seen].max() > PEAK * level:
            chosen[where] |= inside
    if not chosen.any():
        return None
    chosen = binary_dilation(chosen, iterations=MARGIN)
    out = np.zeros(image.shape, bool)
    out[cut] = chosen.repeat(BIN, 0).repeat(BIN, 1)
    return out
