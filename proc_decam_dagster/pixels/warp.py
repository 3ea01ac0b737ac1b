"""Warping: a calibrated image onto the pixels of another WCS, with variance, mask and PSF, in nJy."""

from collections.abc import Iterable, Sequence

import numpy as np
from astropy.wcs import WCS

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.lanczos import fill_along_rows, mask_around, resample, with_slack
from proc_decam_dagster.pixels.mask import BAD, CR, NODATA
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.psf_transform import fit_psf_model, local_matrices, resample_psf

STEP = 32
"""Output pixels between nodes of the coordinate grid: DECam's distortion bends by < 0.001 pixel in between."""
LONGEST_FILL = 10
"""Longest run of bad pixels, along a row, that is interpolated before warping."""


def empty(shape: tuple[int, int], wcs: WCS | None = None) -> MaskedImage:
    """Return an image without a value anywhere: NaN, infinite variance, NODATA; its unit is nJy."""
    return MaskedImage(
        np.full(shape, np.nan, np.float32), np.full(shape, np.inf, np.float32), np.full(shape, NODATA, np.int32),
        wcs=wcs, flux_scale=1.0,
    )  # fmt: skip


def outline(shape: tuple[int, int], per_side: int = 9) -> np.ndarray:
    """Return points on an image's border, (n, 2) pixel x, y, in order."""
    ny, nx = shape
    t = np.linspace(0, 1, per_side)[:-1]
    u = np.concatenate([t, np.ones_like(t), 1 - t, np.zeros_like(t)])
    v = np.concatenate([np.zeros_like(t), t, np.ones_like(t), 1 - t])
    return np.stack([u * nx - 0.5, v * ny - 0.5], 1)


def overlap_box(
    wcs_in: WCS, shape_in: tuple[int, int], wcs_out: WCS, shape_out: tuple[int, int], margin: int = 4
) -> tuple[int, int, int, int] | None:
    """Return the box (x0, y0, x1, y1), half-open, of the output pixels that an input may reach; `None` if none."""
    ny, nx = shape_out
    x, y = wcs_out.all_world2pix(*wcs_in.all_pix2world(*outline(shape_in).T, 0), 0, quiet=True)
    if not np.isfinite(x + y).all():
        return 0, 0, nx, ny
    x0, y0 = max(int(x.min()) - margin, 0), max(int(y.min()) - margin, 0)
    x1, y1 = min(int(x.max()) + margin + 1, nx), min(int(y.max()) + margin + 1, ny)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def coordinate_grid(wcs_in: WCS, wcs_out: WCS, box: tuple[int, int, int, int], step: int = STEP) -> np.ndarray:
    """Return the input pixel position of every ``step``-th output pixel of a box, (2, n, m) as x, y.

    One node more than needed on each axis, so that every pixel has a cell.
    """
    x0, y0, x1, y1 = box
    nodes_x = x0 + np.arange((x1 - x0 + step - 1) // step + 1) * step
    nodes_y = y0 + np.arange((y1 - y0 + step - 1) // step + 1) * step
    x, y = np.meshgrid(nodes_x, nodes_y)
    sky = wcs_out.all_pix2world(x.ravel(), y.ravel(), 0)
    return np.asarray(wcs_in.all_world2pix(*sky, 0, quiet=True)).reshape(2, *x.shape)


def repaired(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a copy whose cosmic rays and small defects are interpolated along the rows."""
    image = with_slack(image)
    fill_along_rows(image, mask, np.int32(BAD | CR), LONGEST_FILL)
    return image


def warp_into(target: MaskedImage, source: MaskedImage, *, scale: float | None = None, repair: bool = True) -> bool:
    """Resample an image into the pixels of ``target`` that have no value yet.

    Flux is conserved: pixel values are multiplied by the ratio of the pixel areas. The variance is that of the nearest
    input pixel, i.e. neighbouring output pixels are correlated but the noise of a sum over many pixels follows from
    the variance as if they were not; the scatter of single pixels is smaller.

    Parameters
    ----------
    target : `MaskedImage`
        Changed in place. Its `wcs` is the output grid.
    source : `MaskedImage`
        Image to warp.
    scale : `float`, optional
        Output unit per input unit; by default the source's `flux_scale` (nJy).
    repair : `bool`, optional
        Interpolate small defects first.

    Returns
    -------
    reached : `bool`
        Whether the input overlaps the output.
    """
    scale = source.flux_scale if scale is None else scale
    if not np.isfinite(scale) or scale <= 0:
        raise ValueError(f"image has no photometric calibration: flux_scale is {scale}")
    box = overlap_box(source.wcs, source.shape, target.wcs, target.shape)
    if box is None:
        return False
    x0, y0, x1, y1 = box
    grid_x, grid_y = coordinate_grid(source.wcs, target.wcs, box)
    image = repaired(source.image, source.mask) if repair else with_slack(source.image)
    part = np.s_[y0:y1, x0:x1]
    variance = np.ascontiguousarray(source.variance, np.float32)
    mask = np.ascontiguousarray(source.mask, np.int32)
    around = np.empty(mask.shape, np.int32)
    mask_around(mask, around)
    return resample(
        image, variance, mask, around, np.ascontiguousarray(grid_x), np.ascontiguousarray(grid_y), STEP,
        float(scale), target.image[part], target.variance[part], target.mask[part],
    )  # fmt: skip


def warp_psf_samples(
    source: MaskedImage, wcs_out: WCS, shape_out: tuple[int, int], per_axis: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Return the source's PSF as the output grid sees it, at points spread over the overlap.

    Returns
    -------
    positions : `numpy.ndarray`, (n, 2)
        Output pixel x, y.
    stamps : `numpy.ndarray`, (n, size, size)
        PSFs of unit sum, centred on the middle pixel.
    """
    box = overlap_box(source.wcs, source.shape, wcs_out, shape_out, margin=0)
    size = source.psf.size
    if box is None:
        return np.zeros((0, 2)), np.zeros((0, size, size))
    x0, y0, x1, y1 = box
    fractions = (np.arange(per_axis) + 0.5) / per_axis
    x, y = (p.ravel() for p in np.meshgrid(x0 + fractions * (x1 - x0), y0 + fractions * (y1 - y0)))
    points = np.stack([x, y], 1)
    ny, nx = source.shape
    positions, stamps = [], []
    for point, centre, matrix in zip(points, *local_matrices(source.wcs, wcs_out, points)):
        if 0 <= centre[0] < nx and 0 <= centre[1] < ny:
            positions.append(point)
            stamps.append(resample_psf(source.psf.kernel(*centre), matrix))
    return np.array(positions).reshape(-1, 2), np.array(stamps).reshape(-1, size, size)


def warp(
    sources: Iterable[MaskedImage], wcs: WCS, shape: tuple[int, int], *, scale: float | None = None,
    repair: bool = True,
) -> MaskedImage:  # fmt: skip
    """Warp images that hardly overlap one another (a visit's detectors, a tract's patches) onto one grid.

    Where two of them reach a pixel, the first gives its value. The PSF is one polynomial through samples of all of
    them: neighbouring detectors see the same atmosphere and optics, so their PSFs join smoothly.

    Parameters
    ----------
    sources : iterable of `MaskedImage`
        Consumed one at a time: only one is held in memory.
    wcs, shape
        Output grid.
    scale, repair
        See `warp_into`.

    Returns
    -------
    warped : `MaskedImage`
        In nJy; NaN, infinite variance and NODATA where no input reached. Metadata: `n_sources`.
    """
    target = empty(shape, wcs)
    positions, stamps, reached = [], [], 0
    for source in sources:
        if not warp_into(target, source, scale=scale, repair=repair):
            continue
        reached += 1
        if source.psf is not None:
            for position, stamp in zip(*warp_psf_samples(source, wcs, shape)):
                positions.append(position)
                stamps.append(stamp)
    if stamps:
        target.psf = fit_psf_model(np.array(positions), stamps, shape)
    target.metadata["n_sources"] = reached
    return target


def common_psf(psfs: Sequence[PsfModel], weights: np.ndarray, shape: tuple[int, int], degree: int = 2) -> PsfModel:
    """Return the weighted mean of PSF models that share a grid.

    Parameters
    ----------
    psfs : sequence of `PsfModel`, (n,)
    weights : `numpy.ndarray`, (n, m, m)
        Weight of each in the cells, m a side, that the image is cut into: none where it does not reach, since a model
        means nothing far from the pixels it was made for.
    shape : `tuple` [`int`, `int`]
        Shape of the image.
    degree : `int`, optional
        Of the result; lower where few cells have a weight.
    """
    ny, nx = shape
    cells = weights.shape[-1]
    size = max(psf.size for psf in psfs)
    positions, stamps = [], []
    for row, column in zip(*np.nonzero(weights.sum(0) > 0)):
        position = (column + 0.5) / cells * nx, (row + 0.5) / cells * ny
        stamp = np.zeros((size, size))
        for psf, weight in zip(psfs, weights[:, row, column]):
            pad = (size - psf.size) // 2
            if weight > 0:
                stamp[pad : size - pad, pad : size - pad] += psf.kernel(*position) * weight
        positions.append(position)
        stamps.append(stamp / weights[:, row, column].sum())
    return fit_psf_model(np.array(positions), stamps, shape, degree)
