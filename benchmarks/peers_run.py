"""The peers' side of the science benchmark: one job on arrays in memory, warm, its CPU seconds as JSON.

Runs in the peers' own environment; imports nothing of ours.
"""

import json
import resource
import sys
import warnings
from pathlib import Path

import numpy as np


def reproject(image, variance, mask, *, wcs_in, wcs_out, shape, whole):
    """Return a call that resamples an image bicubically, the nearest that reproject has to Lanczos-3.

    With ``whole`` also its variance and mask, nearest pixel, so that as much is known of the result as of ours.
    """
    from astropy.io import fits
    from astropy.wcs import WCS
    from reproject import reproject_interp

    source, target = (WCS(fits.Header.fromstring(text)) for text in (wcs_in, wcs_out))
    options = {"shape_out": tuple(shape), "return_footprint": False}
    planes = np.stack([variance, mask.astype(np.float32)])

    def work():
        warped = reproject_interp((image, source), target, order="bicubic", **options)
        if not whole:
            return warped
        variance, mask = reproject_interp((planes, source), target, order="nearest-neighbor", **options)
        return warped, variance, np.nan_to_num(mask, nan=16).astype(np.int32)

    return work


def _signal(raw, amplifier):
    """Return an amplifier's pixels without the level of its overscan (median of each row)."""
    import ccdproc
    from astropy.nddata import CCDData

    x0, y0, x1, y1 = amplifier["data"]
    a, _, b, _ = amplifier["overscan"]
    frame = CCDData(raw[y0:y1].astype(np.float32), unit="adu")
    frame = ccdproc.subtract_overscan(frame, frame[:, a:b], overscan_axis=1, median=True)
    return ccdproc.trim_image(frame[:, x0:x1])


def bias(stack, *, amplifiers, bottleneck, whole):
    """Return a call that combines zeros as ccdproc's guide does, with or without the bottleneck library's medians.

    With ``whole`` it begins with raw frames, as ours does; else with frames whose overscan is off and trimmed.
    """
    if not bottleneck:
        sys.modules["bottleneck"] = None  # an import of it fails, as where it is not installed
    import ccdproc
    from astropy.nddata import CCDData
    from astropy.stats import mad_std

    def prepared():
        return [CCDData(np.hstack([_signal(raw, each).data for each in amplifiers]), unit="adu") for raw in stack]

    def combined(frames):
        return ccdproc.combine(
            frames, method="average", sigma_clip=True, sigma_clip_low_thresh=5, sigma_clip_high_thresh=5,
            sigma_clip_func=np.ma.median, sigma_clip_dev_func=mad_std, mem_limit=8e9, dtype=np.float32,
        )  # fmt: skip

    if whole:
        return lambda: combined(prepared())
    frames = prepared()
    return lambda: combined(frames)


def isr(raw, bias, bias_noise, flat, flat_noise, bad, *, amplifiers, whole):
    """Return a call that makes electrons, their uncertainty and a mask of a raw frame.

    Steps of ccdproc: overscan (median of each row), trim, deviation, bias, gain, flat, each with its uncertainty, and
    the bad-pixel mask. With ``whole`` also what ccdproc has no step for, by the arithmetic of its images: crosstalk
    between the amplifiers, linearity, flags of saturated pixels and their neighbours, and the amplifiers put together.
    """
    import ccdproc
    from astropy import units as u
    from astropy.nddata import CCDData, StdDevUncertainty
    from scipy.ndimage import binary_dilation

    bias = CCDData(bias, uncertainty=StdDevUncertainty(bias_noise), unit="adu")
    flat = CCDData(flat, uncertainty=StdDevUncertainty(flat_noise), unit=u.dimensionless_unscaled)

    def correct(amplifier, frame, other):
        left, _, right, _ = amplifier["box"]
        if whole:
            frame = frame.subtract(other.multiply(amplifier["leak"]), handle_meta="first_found")
        gain, noise = amplifier["gain"] * u.electron / u.adu, amplifier["read_noise"] * u.electron
        frame = ccdproc.create_deviation(frame, gain=gain, readnoise=noise, disregard_nan=True)
        frame = ccdproc.subtract_bias(frame, bias[:, left:right])
        if whole:
            correction = np.interp(frame.data, amplifier["adu"], amplifier["correction"])
            frame = frame.add(correction * u.adu, handle_meta="first_found")
        frame = ccdproc.flat_correct(ccdproc.gain_correct(frame, gain), flat[:, left:right], norm_value=1)
        frame.mask = bad[:, left:right]
        return frame

    def work():
        signals = [_signal(raw, amplifier) for amplifier in amplifiers]
        # pixels of both amplifiers that are read at the same time: mirrored
        others = [CCDData(each.data[:, ::-1], unit="adu") for each in signals[::-1]]
        frames = [correct(*each) for each in zip(amplifiers, signals, others)]
        if not whole:
            return frames
        image, variance = np.empty_like(bias.data), np.empty_like(bias.data)
        mask = np.zeros(image.shape, np.int32)
        for amplifier, frame in zip(amplifiers, frames):
            (left, _, right, _), (x0, y0, x1, y1) = amplifier["box"], amplifier["data"]
            image[:, left:right], variance[:, left:right] = frame.data, frame.uncertainty.array**2
            counts = raw[y0:y1, x0:x1]
            mask[:, left:right] |= np.where(frame.mask, 1, 0)
            mask[:, left:right] |= np.where(binary_dilation(counts >= amplifier["saturation"], np.ones((3, 3))), 2, 0)
            mask[:, left:right] |= np.where(counts >= 0.9 * amplifier["saturation"], 64, 0)
        return image, variance, mask

    return work


def cosmic_rays(image, variance, mask):
    """Return a call that searches an image for cosmic rays."""
    import astroscrappy

    return lambda: astroscrappy.detect_cosmics(
        image, inmask=mask, invar=variance, niter=2, sepmed=True, cleantype="medmask", objlim=4.0, sigfrac=0.3,
        sigclip=5.0, gain=1.0, readnoise=7.0, satlevel=1e5,
    )  # fmt: skip


def photometry(image, psf, x, y, *, radius):
    """Return a call that fits the PSF fluxes of sources at fixed positions."""
    from astropy.table import Table
    from photutils.psf import ImagePSF, PSFPhotometry

    model = ImagePSF(psf)
    model.x_0.fixed = model.y_0.fixed = True
    fitter = PSFPhotometry(model, (2 * radius + 1, 2 * radius + 1), aperture_radius=radius)
    return lambda: fitter(image, init_params=Table({"x": x, "y": y}))


def main() -> None:
    """Run the job named on the command line, with what its folder holds; once if that takes long, else twice."""
    warnings.simplefilter("ignore")
    job, folder = sys.argv[1], Path(sys.argv[2])
    function = globals()[job]
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    work = function(
        *(np.load(folder / f"{name}.npy") for name in names), **json.loads((folder / "values.json").read_text())
    )
    taken = []
    for _ in range(2):
        start = resource.getrusage(resource.RUSAGE_SELF)
        work()
        end = resource.getrusage(resource.RUSAGE_SELF)
        taken.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
        if taken[0] > 30:
            break
    print(json.dumps({"cpu": min(taken)}))


if __name__ == "__main__":
    main()
