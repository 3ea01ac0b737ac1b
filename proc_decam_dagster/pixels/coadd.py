"""Coadds: warps of one patch combined into one image, with variance, mask, number of inputs and PSF."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter

from proc_decam_dagster.pixels import coadd_kernels as kernels
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import CLIPPED, NODATA, UNUSABLE
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.warp import common_psf, empty
from proc_decam_dagster.pixels.warp_stack import MEMORY_BYTES, WarpStack

STATISTICS = ("mean", "median", "meanclip", "min")
N_SIGMA = 4.0
"""An input this far from the median is an outlier."""
N_SIGMA_NEAR = 2.0
"""… and so are its neighbours that are this far."""
NEIGHBOURHOOD = 5
"""Width of the box over which the strength of the signal is taken, pixels."""
CELLS = 4
"""Cells a side of a patch over which a warp's coverage, and so its part in the PSF, is counted."""
PSF_ERROR = 1.5
"""Error of a star's pixels, where inputs are missing, per error of its PSF flux there: larger than 1, since the errors
of neighbouring pixels are not independent, as a variance says they are."""
ROWS = 64
"""Rows combined at once."""
_HALO = NEIGHBOURHOOD // 2 + 1


def sky_variance(image: MaskedImage) -> float:
    """Return the variance of the sky: the median over usable pixels, thinned."""
    variance, mask = image.variance[::7, ::7], image.mask[::7, ::7]
    good = (mask & UNUSABLE == 0) & np.isfinite(variance) & (variance > 0)
    return float(np.median(variance[good])) if good.any() else float("inf")


def psf_tolerances(
    psfs: list[PsfModel | None], shape: tuple[int, int], positions: np.ndarray | None = None
) -> np.ndarray:
    """Return how far each warp may differ from the median of all because its seeing is another.

    Parameters
    ----------
    psfs : `list` [`PsfModel`], (n,)
    shape : `tuple` [`int`, `int`]
        Shape of the patch.
    positions : `numpy.ndarray`, (n, 2), optional
        Pixel x, y amid each warp, where its PSF is taken; by default the patch's middle.

    Notes
    -----
    For a star of flux F, warp k differs from the median by F·|P_k - P_median|, at most ``tolerance[k]`` times the
    maximum of the median within the neighbourhood. So star cores of a sharp epoch are not taken for outliers, and no
    more tolerance than that is given.
    """
    if positions is None:
        positions = np.full((len(psfs), 2), (shape[1] / 2, shape[0] / 2))
    stamps = [None if psf is None else psf.kernel(*at) for psf, at in zip(psfs, positions)]
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < 2:
        return np.full(len(psfs), 0.3, np.float32)
    size = min(len(stamp) for stamp in known)

    def middle(stamp: np.ndarray) -> np.ndarray:
        trim = (len(stamp) - size) // 2
        return stamp[trim : trim + size, trim : trim + size]

    median = np.median([middle(stamp) for stamp in known], axis=0)
    strength = maximum_filter(median, NEIGHBOURHOOD)
    matters = strength > 3e-3 * strength.max()
    tolerances = [
        0.3 if stamp is None else (np.abs(middle(stamp) - median)[matters] / strength[matters]).max()
        for stamp in stamps
    ]  # fmt: skip
    # astrometric and sub-pixel differences, on top: a shift of 0.05 pixel changes a star's flank by 5 %
    return (1.3 * np.array(tolerances) + 0.08).astype(np.float32)


def coverage(image: MaskedImage) -> np.ndarray:
    """Return the fraction of the pixels with a value in each cell of an image, (CELLS, CELLS)."""
    known = (image.mask[::8, ::8] & NODATA) == 0
    rows = np.array_split(known, CELLS, axis=0)
    return np.array(
        [[cell.mean() if cell.size else 0.0 for cell in np.array_split(row, CELLS, axis=1)] for row in rows]
    )


def centres(covered: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixel x, y amid each warp, (n, 2), from their coverages, (n, CELLS, CELLS)."""
    cells = (np.arange(CELLS) + 0.5) / CELLS
    total = np.maximum(covered.sum((1, 2)), 1e-30)
    x, y = (covered.sum(1) @ cells) / total * shape[1], (covered.sum(2) @ cells) / total * shape[0]
    return np.stack([x, y], 1)


def psf_flux_ratios(psfs: list[PsfModel | None], positions: np.ndarray, combined: PsfModel) -> np.ndarray:
    """Return what a PSF flux with the coadd's PSF makes of a star of each warp alone, relative to its flux, (n,).

    Parameters
    ----------
    psfs : `list` [`PsfModel`], (n,)
        Of the warps.
    positions : `numpy.ndarray`, (n, 2)
        Pixel x, y amid each warp.
    combined : `PsfModel`
        Of the coadd. Weighted with the warps' weights, the ratios have the mean 1.
    """
    ratios = np.ones(len(psfs), np.float32)
    middle = combined.size // 2
    for k, (psf, position) in enumerate(zip(psfs, positions)):
        if psf is not None:
            inner = slice(middle - psf.size // 2, middle + psf.size // 2 + 1)
            model = combined.kernel(*position)
            ratios[k] = (model[inner, inner] * psf.kernel(*position)).sum() / (model**2).sum()
    return ratios


def coadd(
    warps: Iterable[MaskedImage], count: int, shape: tuple[int, int], *, statistic: str = "meanclip",
    n_sigma: float = N_SIGMA, memory_bytes: int = MEMORY_BYTES,
) -> tuple[MaskedImage, np.ndarray]:  # fmt: skip
    """Combine warps of one patch.

    Parameters
    ----------
    warps : iterable of `MaskedImage`
        In nJy on the same pixels; consumed one at a time.
    count : `int`
        How many there will be.
    shape : `tuple` [`int`, `int`]
        Shape of the patch.
    statistic : `str`
        ``mean`` (weighted by the inverse variance of each warp's sky), ``meanclip`` (the same after rejecting
        outliers), ``median``, or ``min``.
    n_sigma : `float`
        Rejection threshold of ``meanclip``.
    memory_bytes : `int`
        Pixels beyond this are kept in a scratch file.

    Returns
    -------
    combined : `MaskedImage`
        In nJy. Metadata: `statistic`, `n_inputs`, `visits`, `mjd` (mean), `clipped_fraction`, `weights_sum`.
    n_image : `numpy.ndarray`, (ny, nx), int16
        Number of inputs of each pixel.

    Notes
    -----
    A warp has one weight, that of its sky: with a weight for each pixel, a star's own photon noise would enter, and the
    PSF of the coadd would depend on the star's flux. The PSF is the mean of the warps' PSFs with these weights; for
    ``median`` with equal ones; for ``min``, which has no PSF in this sense, the same as for ``median``. Near the edges
    of the detectors, where some inputs are missing, a star's image is not that PSF: the variance says so.
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic {statistic!r} is none of {', '.join(STATISTICS)}")
    with WarpStack(shape, count, memory_bytes) as stack:
        psfs, variances, reach, wcs, inputs = [], [], [], None, []
        for image in warps:
            stack.add(image)
            psfs.append(image.psf)
            variances.append(sky_variance(image))
            reach.append(coverage(image))
            inputs.append(image.metadata)
            wcs = wcs or image.wcs
        if not len(stack):
            raise ValueError("a coadd needs at least one warp")
        weights = 1 / np.array(variances)
        weights = (weights / weights.max()).astype(np.float32) if weights.max() > 0 else np.ones(len(stack), np.float32)
        psf_weights = weights if statistic in ("mean", "meanclip") else np.ones_like(weights)
        shares = psf_weights[:, None, None] * np.array(reach)
        positions = centres(np.array(reach), shape)
        out = empty(shape, wcs)
        known = [k for k, psf in enumerate(psfs) if psf is not None and shares[k].any()]
        if known:
            out.psf = common_psf([psfs[k] for k in known], shares[known], shape)
        psf_tolerance = psf_tolerances(psfs, shape, positions)
        n_image = np.zeros(shape, np.int16)
        ratios = psf_flux_ratios(psfs, positions, out.psf) if known else np.ones(len(stack), np.float32)
        network = kernels.sorting_network(len(stack))
        halo = _HALO if statistic == "meanclip" else 0
        used = clipped = 0
        for start in range(0, shape[0], ROWS):
            stop = min(start + ROWS, shape[0])
            top, bottom = max(start - halo, 0), min(stop + halo, shape[0])
            block, first = stack.rows(top, bottom)
            images, spread, masks = block["image"], block["variance"], block["mask"]
            usable = np.empty((len(stack), bottom - top, shape[1]), np.uint8)
            kernels.mark_usable(images, spread, masks, np.int16(UNUSABLE), first, usable)
            if statistic == "meanclip":
                reference, strength = (np.empty(usable.shape[1:], np.float32) for _ in range(2))
                kernels.median_of_stack(images, usable, first, network, reference)
                kernels.strongest(reference, NEIGHBOURHOOD // 2, strength)
                kernels.reject_outliers(
                    images, spread, usable, first, reference, strength, psf_tolerance, n_sigma, N_SIGMA_NEAR
                )
                usable = np.ascontiguousarray(usable[:, start - top : stop - top])
            first += start - top
            image, variance = out.image[start:stop], out.variance[start:stop]
            if statistic == "median":
                kernels.median_of_stack(images, usable, first, network, image)
                kernels.median_variance(spread, usable, first, variance)
            elif statistic == "min":
                kernels.minimum(images, spread, usable, first, image, variance)
            else:
                kernels.weighted_mean(images, spread, usable, first, weights, image, variance)
            counts = kernels.finish(
                masks, usable, first, np.int16(UNUSABLE), CLIPPED, NODATA, image, out.mask[start:stop],
                n_image[start:stop], psf_weights, ratios, np.float32(PSF_ERROR), variance,
            )  # fmt: skip
            used, clipped = used + counts[0], clipped + counts[1]
        out.metadata = _summary(inputs, weights) | {
            "statistic": statistic,
            "n_inputs": len(stack),
            "clipped_fraction": clipped / max(clipped + used, 1),
        }
    return out, n_image


def _summary(inputs: list[dict[str, Any]], weights: np.ndarray) -> dict[str, Any]:
    """Return what a coadd says of its inputs: visits and mean date."""
    visits = [int(m["visit"]) for m in inputs if "visit" in m]
    dates = [(float(m["mjd"]), float(w)) for m, w in zip(inputs, weights) if np.isfinite(m.get("mjd", np.nan))]
    summary: dict[str, Any] = {"visits": ",".join(map(str, visits)), "weights_sum": float(np.sum(weights))}
    if dates:
        summary["mjd"] = float(np.average([d for d, _ in dates], weights=[w for _, w in dates]))
    return summary
