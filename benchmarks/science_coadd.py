"""Figures of warp and coadd: CPU seconds against SWarp and reproject; noise and PSF of every statistic."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import sep
from astropy.io import fits
from astropy.wcs import WCS
from science_peers import peer_seconds, swarp_program
from science_sample import TEMPLATES, Sample, blank_positions
from science_timing import cpu_of, cpu_seconds, figure, mad, speed
from scipy.ndimage import binary_dilation

from proc_decam_dagster.pixels.coadd import STATISTICS, coadd
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import DETECTED, NODATA, UNUSABLE
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_match import match_psf
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.tract import Tract
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.simulation.optics import PsfField
from proc_decam_dagster.simulation.rendering import draw_stars

SHAPE = (2208, 4256)
"""Patch that holds the CCD, turned as the sky has it."""
IN_MEMORY = 10**9
"""Bytes of pixels that the coadd may keep in memory: no scratch file is timed."""
RADIUS = 4.0
"""Of the apertures that noise is measured in, pixels."""
STAR = 1e6
"""Electrons of the noiseless stars that show the coadd's true PSF."""


def patch_wcs(exposure: MaskedImage) -> WCS:
    """Return the WCS of a patch centred on an exposure."""
    ny, nx = exposure.shape
    ra, dec = (float(v) for v in exposure.wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
    ny, nx = SHAPE
    return Tract(0, ra, dec, 1, 1, 1, 0, 0.263, (nx / 2 - 0.5, ny / 2 - 0.5)).patch(0).tract._wcs((0, 0, nx, ny))


def make_coadd(sample: Sample) -> tuple[list[MaskedImage], list[MaskedImage], MaskedImage]:
    """Return the template exposures, their warps, and the coadd of the default statistic."""
    numbers = sample.expnums("object", "template")[:TEMPLATES]
    exposures = [sample.visit(number).exposure for number in numbers]
    wcs = patch_wcs(exposures[0])
    warps = [warp([exposure], wcs, SHAPE) for exposure in exposures]
    for number, each in zip(numbers, warps):
        each.metadata["visit"] = number
    return exposures, warps, coadd(warps, len(warps), SHAPE)[0]


def figures(
    sample: Sample, made: tuple, bytes_per_second: float, python: Path | None, folder: Path, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Yield the figures of warp and coadd; ``made`` is what `make_coadd` returned."""
    exposures, warps, _ = made
    wcs = patch_wcs(exposures[0])
    warp_in, _ = cpu_of(lambda: [warp([exposure], wcs, SHAPE) for exposure in exposures], 3)
    coadd_in, _ = cpu_of(lambda: coadd(warps, len(warps), SHAPE, memory_bytes=IN_MEMORY), 3)
    say("warps and coadds timed; peers follow")
    cards = [each.to_header_string(relax=True) for each in (exposures[0].wcs, wcs)]
    planes = {name: getattr(exposures[0], name) for name in ("image", "variance", "mask")}

    def reproject(whole: bool) -> float | None:
        taken = peer_seconds(python, "reproject", folder, planes, wcs_in=cards[0], wcs_out=cards[1], shape=SHAPE,
                             whole=whole)  # fmt: skip
        return None if taken is None else taken * len(exposures)

    # image, variance and mask of each exposure in, of each warp out and in again, of the coadd out
    moved = 12.0 * sum(exposure.image.size + 2 * SHAPE[0] * SHAPE[1] for exposure in exposures)
    name = f"warp and clipped coadd of {len(exposures)}"
    peers = {
        "reproject (bicubic; variance and mask, no coadd)": (reproject(whole=True), 35.0),
        "reproject (bicubic image alone)": (reproject(whole=False), None),
    }
    yield from speed(name, warp_in + coadd_in, 3.0, moved, bytes_per_second, peers)
    yield figure(f"{len(exposures)} warps, CPU", warp_in, "s")
    yield figure("clipped coadd, CPU", coadd_in, "s")
    yield from _against_swarp(exposures, wcs, folder, say)
    say("coadds' quality")
    yield from _noise(warps)
    yield from _psf(sample, exposures, warps, wcs)
    yield from _matched(warps)


def _against_swarp(exposures, wcs, folder: Path, say) -> Iterator[dict[str, Any]]:
    """Yield the same from files to file, ours and SWarp's: plain FITS images and weights in, coadd and weight out."""
    name = f"warp and clipped coadd of {len(exposures)}, files to file"
    paths = [folder / f"exposure{k}.fits" for k in range(len(exposures))]
    for path, exposure in zip(paths, exposures):
        header = exposure.wcs.to_header(relax=True)
        header["FLXSCALE"] = exposure.flux_scale
        fits.writeto(path, exposure.image, header, overwrite=True)
        good = (exposure.mask & UNUSABLE) == 0
        weight = np.where(good, 1 / exposure.variance, 0).astype(np.float32)
        fits.writeto(path.with_suffix(".weight.fits"), weight, overwrite=True)

    def warps() -> Iterator[MaskedImage]:
        for path in paths:
            image, weight = fitsio.read(path), fitsio.read(path.with_suffix(".weight.fits"))
            header = fits.getheader(path)
            with np.errstate(divide="ignore"):
                variance = 1 / weight
            mask = np.where(weight > 0, np.int32(0), np.int32(NODATA))
            source = MaskedImage(image, variance, mask, WCS(header), None, header["FLXSCALE"])
            yield warp([source], wcs, SHAPE, repair=False)

    def ours() -> None:
        combined, _ = coadd(warps(), len(paths), SHAPE, memory_bytes=IN_MEMORY)
        fitsio.write(folder / "ours.fits", combined.image, header=dict(wcs.to_header()), clobber=True)
        fitsio.write(folder / "ours.weight.fits", 1 / combined.variance, clobber=True)

    program = swarp_program()
    if program is None:
        yield figure(f"{name}, CPU", cpu_of(ours, 3)[0], "s")
        say("no SWarp: it is not installed (Debian: apt install swarp)")
        yield figure(f"{name}, times faster than SWarp", float("nan"), "", 8, at_least=True, peer="SWarp")
        return
    header = wcs.to_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, SHAPE[1], SHAPE[0]
    (folder / "swarp.head").write_text(header.tostring(sep="\n", padding=False) + "\nEND\n")
    options = {
        "IMAGEOUT_NAME": "swarp.fits", "WEIGHTOUT_NAME": "swarp.weight.fits", "WEIGHT_TYPE": "MAP_WEIGHT",
        "WEIGHT_SUFFIX": ".weight.fits", "RESAMPLING_TYPE": "LANCZOS3", "COMBINE_TYPE": "CLIPPED",
        "SUBTRACT_BACK": "N", "NTHREADS": "1", "RESAMPLE_DIR": ".", "VERBOSE_TYPE": "QUIET", "WRITE_XML": "N",
        "FSCALE_KEYWORD": "FLXSCALE", "MEM_MAX": "4000", "COMBINE_BUFSIZE": "2048",
    }  # fmt: skip
    command = [program, *(path.name for path in paths), *(w for k, v in options.items() for w in (f"-{k}", v))]

    def swarp() -> float:
        start = cpu_seconds(children=True) - cpu_seconds()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return cpu_seconds(children=True) - cpu_seconds() - start

    ours()
    # in turns, so that the machine's other load, which makes CPU seconds longer, meets both
    pairs = [(cpu_of(ours, 1, warm=False)[0], swarp()) for _ in range(3)]
    taken, theirs = np.median(pairs, axis=0)
    yield figure(f"{name}, CPU", taken, "s")
    yield figure(f"{name}, SWarp, CPU", theirs, "s")
    row = figure(f"{name}, times faster than SWarp", theirs / taken, "", 8, at_least=True)
    yield row | {"peer": "SWarp", "peer_value": round(theirs, 3), "ratio": round(theirs / taken, 3)}


def _aperture_noise(image: np.ndarray, at: np.ndarray) -> float:
    flux, _, _ = sep.sum_circle(np.nan_to_num(image), at[:, 0], at[:, 1], RADIUS)
    return mad(flux)


def _blank(warps: list[MaskedImage]) -> np.ndarray:
    """Return positions of blank sky that all warps cover."""
    hidden = np.zeros(SHAPE, bool)
    for each in warps:
        hidden |= (each.mask & (DETECTED | UNUSABLE)) != 0
    return blank_positions(warps[0].image, binary_dilation(hidden, iterations=8), 60_000, seed=3)


def _noise(warps: list[MaskedImage]) -> Iterator[dict[str, Any]]:
    """Yield the noise of apertures on blank sky over what each coadd's own variance, and the single warps, say."""
    at = _blank(warps)
    singles = np.array([_aperture_noise(each.image, at) for each in warps])
    best = 1 / np.sqrt((1 / singles**2).sum())
    for statistic in STATISTICS:
        combined, count = coadd(warps, len(warps), SHAPE, statistic=statistic)
        noise = _aperture_noise(combined.image, at)
        if statistic == "min":
            stack = np.stack([np.where(np.isfinite(each.image), each.image, np.inf) for each in warps]).min(0)
            same = np.mean((combined.image == stack)[(count == len(warps))])
            yield figure("coadd min: pixels that are the smallest input", same, "", 1.0, at_least=True)
            continue
        variance, _, _ = sep.sum_circle(np.where(np.isfinite(combined.variance), combined.variance, 0), *at.T, RADIUS)
        own = noise / np.sqrt(np.median(variance))
        yield figure(f"coadd {statistic}: aperture noise over its own theory", own, "", 1.05)
        target = None if statistic == "median" else 1.05
        yield figure(
            f"coadd {statistic}: aperture noise over the inverse-variance expectation", noise / best, "", target
        )


def _stars(sample: Sample, exposures: list[MaskedImage], warps: list[MaskedImage], wcs: WCS):
    """Return positions in the patch and warps of noiseless stars there, as each exposure has seen them."""
    numbers = sample.expnums("object", "template")[: len(exposures)]
    ny, nx = SHAPE
    x, y = (g.ravel().astype(float) for g in np.meshgrid(np.linspace(400, nx - 400, 6).round(),
                                                         np.linspace(300, ny - 300, 4).round()))  # fmt: skip
    sky = wcs.all_pix2world(x, y, 0)
    made = []
    for number, exposure, warped in zip(numbers, exposures, warps):
        truth = next(e for e in sample.exposures if e.expnum == number)
        light = np.zeros(exposure.shape, np.float32)
        # where the star truly fell: the warp uses the WCS that was measured
        at = sample.true_wcs(number).all_world2pix(*sky, 0)
        draw_stars(light, *at, np.full(len(x), STAR), PsfField.of(truth), edge=0.01)
        source = MaskedImage(light, exposure.variance, np.zeros(light.shape, np.int32), exposure.wcs, None, 1.0)
        image = warp([source], wcs, SHAPE)
        image.psf, image.variance = warped.psf, warped.variance
        made.append(image)
    return x, y, made


def _psf(sample, exposures, warps, wcs) -> Iterator[dict[str, Any]]:
    """Yield how far the coadd's PSF is from that of noiseless stars that went the same way."""
    x, y, images = _stars(sample, exposures, warps, wcs)
    for statistic in ("meanclip", "median"):
        combined, _ = coadd(images, len(images), SHAPE, statistic=statistic)
        combined.variance[:] = 1
        half = combined.psf.size // 2
        widths = []
        for column, row in zip(x.astype(int), y.astype(int)):
            star = combined.image[row - half : row + half + 1, column - half : column + half + 1]
            seen = PsfModel(star[None].astype(float), 0, SHAPE).fwhm(0, 0)
            widths.append(combined.psf.fwhm(column, row) / seen - 1)
        ratio = psf_fluxes(combined, x, y).flux / STAR - 1
        # a median has no one PSF: of stars brighter than the noise it is the median, of fainter ones nearly the mean
        target = None if statistic == "median" else 1.0
        worst = 100 * np.abs(widths).max()
        yield figure(f"coadd {statistic}: PSF FWHM error of noiseless stars, worst of {len(x)}", worst, "%", target)
        yield figure(f"coadd {statistic}: PSF flux error, median", 100 * abs(np.median(ratio)), "%", 1.0)


def _matched(warps: list[MaskedImage]) -> Iterator[dict[str, Any]]:
    """Yield what PSF matching costs, and how alike the PSFs of all warps are after it."""
    target = 1.05 * max(each.psf.fwhm(x, y) for each in warps
                        for x in (0.1 * SHAPE[1], 0.5 * SHAPE[1], 0.9 * SHAPE[1])
                        for y in (0.1 * SHAPE[0], 0.5 * SHAPE[0], 0.9 * SHAPE[0]))  # fmt: skip
    taken, first = cpu_of(lambda: match_psf(warps[0], target), 2)
    yield figure("PSF-matched warp of a CCD, CPU", taken, "s")
    last = match_psf(warps[1], target)
    at = _blank(warps)[:10]
    yield figure("PSF-matched warps: difference of FWHM", 100 * abs(first.psf.fwhm(*at[0]) / last.psf.fwhm(*at[1]) - 1),
                 "%", 1.0)  # fmt: skip
