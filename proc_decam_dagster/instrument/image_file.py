"""The file of a `MaskedImage`: compressed FITS that any FITS reader opens.

Image and variance are stored as scaled integers (BSCALE, BLANK), RICE-compressed; the mask losslessly. The step is
1/16 of the pixel noise, so that rounding adds 0.03 % to the noise variance and, being far below it, no bias; pixels
that are all whole numbers keep their exact values. One step for the whole image, instead of cfitsio's one a tile,
makes writing four times as fast.
Non-finite pixels are stored as FITS nulls: they come back as NaN in the image, and as infinity in the variance,
where both say that nothing is known of the pixel.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import BIT
from proc_decam_dagster.pixels.psf_model import PsfModel

BLANK = -(2**31)
LARGEST = 2**31 - 256
"""Largest integer that float32 rounds to something an int32 holds."""

STEPS_IN_NOISE = 16
VARIANCE_STEP = 0.005
"""Step of the variance, in units of the variance of the least noisy pixels."""

WCS_CARDS = (
    "WCSAXES", "CRPIX", "CRVAL", "CDELT", "CUNIT", "CTYPE", "PC", "CD", "PV", "LONPOLE", "LATPOLE", "RADESYS",
    "EQUINOX",
)  # fmt: skip

COMPONENTS = ("image", "variance", "mask", "wcs", "psf", "metadata")


def noise(image: np.ndarray) -> float:
    """Return the pixel noise from differences along the rows of a sample of rows; NaN where there are none."""
    rows = image[:: max(1, image.shape[0] // 256)]
    step = 2 if image.shape[1] > 2 else 1
    difference = np.abs(rows[:, step:] - rows[:, :-step])
    difference = difference[np.isfinite(difference) & (difference > 0)]
    return float(1.4826 / np.sqrt(2) * np.median(difference)) if difference.size else float("nan")


def _image_step(image: np.ndarray, variance: np.ndarray) -> float:
    finite = image[np.isfinite(image)]
    if not finite.size or np.array_equal(finite, np.rint(finite)):
        return 1.0
    known = variance[:: max(1, image.shape[0] // 256)]
    known = known[np.isfinite(known) & (known > 0)]
    noises = [noise(image), np.sqrt(np.percentile(known, 5)) if known.size else np.nan]
    return float(np.nanmin(noises)) / STEPS_IN_NOISE if np.isfinite(noises).any() else float("nan")


def _variance_step(variance: np.ndarray) -> float:
    known = variance[np.isfinite(variance) & (variance > 0)]
    return VARIANCE_STEP * float(np.percentile(known[:: max(1, known.size // 100_000)], 1)) if known.size else 1.0


def _to_integers(values: np.ndarray, step: float) -> np.ndarray | None:
    """Return values in units of a step, int32 with `BLANK` where not finite; None if they do not fit."""
    finite = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * np.float32(1 / step)
        np.rint(scaled, out=scaled)
        whole = bool(finite.all())
        if not np.isfinite(step) or step <= 0 or not (np.abs(scaled) <= LARGEST).all(where=True if whole else finite):
            return None
        integers = scaled.astype(np.int32)
    if not whole:
        integers[~finite] = BLANK
    return integers


def _write_plane(file: Any, name: str, values: np.ndarray, step: float, cards: dict[str, Any]) -> None:
    tile = (1, values.shape[1])
    integers = _to_integers(values, step)
    if integers is None:
        # Too great a range for 31 bits above the noise: exact, slower and larger.
        exact = np.where(np.isfinite(values), values, np.float32(np.nan))
        file.write(exact, extname=name, header=cards, compress="GZIP_2", qlevel=0, tile_dims=tile)
        return
    file.write(integers, extname=name, header=cards, compress="RICE", tile_dims=tile)
    scale = [("BSCALE", float(np.float32(step))), ("BZERO", 0.0), ("BLANK", BLANK)]
    # After the pixels: cfitsio would apply the scale to the integers that it writes.
    file[-1].write_keys([{"name": key, "value": value} for key, value in scale], clean=False)


def write_image(path: str | Path, image: MaskedImage) -> None:
    """Write an image to a new FITS file.

    HDUs: IMAGE (with WCS, FLUXSCAL), VARIANCE, MASK (bits in MP_* cards), PSF if there is one, METADATA.
    """
    import fitsio

    cards = {} if image.wcs is None else dict(image.wcs.to_header(relax=True))
    if np.isfinite(image.flux_scale):
        cards["FLUXSCAL"] = float(image.flux_scale)
    pixels = np.ascontiguousarray(image.image, np.float32)
    variance = np.ascontiguousarray(image.variance, np.float32)
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        _write_plane(file, "IMAGE", pixels, _image_step(pixels, variance), cards)
        _write_plane(file, "VARIANCE", variance, _variance_step(variance), {})
        bits = {f"MP_{name[:5]}": int(np.log2(bit)) for name, bit in BIT.items() if name != "DETECTED_NEGATIVE"}
        bits["MP_DETNE"] = int(np.log2(BIT["DETECTED_NEGATIVE"]))
        mask = np.ascontiguousarray(image.mask, np.int32)
        file.write(mask, extname="MASK", header=bits, compress="RICE", tile_dims=(1, mask.shape[1]))
        if image.psf is not None:
            psf = image.psf
            shape = {"DEGREE": psf.degree, "IMAGENX": psf.shape[1], "IMAGENY": psf.shape[0]}
            file.write(np.ascontiguousarray(psf.coefficients), extname="PSF", header=shape)
        text = json.dumps(image.metadata, default=_plain).encode()
        file.write(np.frombuffer(text, np.uint8), extname="METADATA", header={"CONTENT": "JSON, UTF-8"})


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"metadata value {value!r} is neither a scalar nor a list")


def _read_plane(hdu: Any, null: float, region: tuple | None) -> np.ndarray:
    header = hdu.read_header()
    if "BLANK" not in header:
        values = (hdu.read() if region is None else hdu[region]).astype(np.float32, copy=False)
        missing = ~np.isfinite(values)
    else:
        hdu.ignore_scaling = True
        integers = hdu.read() if region is None else hdu[region]
        values = integers.astype(np.float32)
        values *= np.float32(header["BSCALE"])
        missing = integers == BLANK
    values[missing] = null
    return values


def _read_component(file: Any, component: str, region: tuple | None) -> Any:
    if component == "image":
        return _read_plane(file["IMAGE"], np.nan, region)
    if component == "variance":
        return _read_plane(file["VARIANCE"], np.inf, region)
    if component == "mask":
        return (file["MASK"].read() if region is None else file["MASK"][region]).astype(np.int32, copy=False)
    if component == "wcs":
        return _read_wcs(file["IMAGE"].read_header(), region)
    if component == "psf":
        if "PSF" not in file:
            return None
        header = file["PSF"].read_header()
        coefficients = file["PSF"].read()
        coefficients = coefficients.astype(coefficients.dtype.newbyteorder("="), copy=False)
        return PsfModel(coefficients, int(header["DEGREE"]), (int(header["IMAGENY"]), int(header["IMAGENX"])))
    if component == "metadata":
        return json.loads(file["METADATA"].read().tobytes())
    raise ValueError(f"component {component!r} is none of {COMPONENTS}")


def _read_wcs(header: Any, region: tuple | None) -> Any:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    if "CTYPE1" not in header:
        return None
    wcs = WCS(Header({key: header[key] for key in header if key and key.startswith(WCS_CARDS)}))
    return wcs if region is None else wcs[region]


def read_image(path: str | Path, component: str | None = None, bbox: tuple[int, int, int, int] | None = None) -> Any:
    """Read an image, or one component of it.

    Parameters
    ----------
    path : path-like
        File written by `write_image`.
    component : `str`, optional
        One of `COMPONENTS`: only its part of the file is read.
    bbox : `tuple` [`int`], optional
        Rectangle (x0, y0, x1, y1), 0-based and half-open: only the tiles that it touches are decompressed. The WCS is
        shifted to it; the PSF is left out of a cut image, for its positions would be wrong.

    Raises
    ------
    SurveyError
        Raised if the file is damaged.
    """
    import fitsio

    region = None if bbox is None else (slice(bbox[1], bbox[3]), slice(bbox[0], bbox[2]))
    try:
        with fitsio.FITS(str(path)) as file:
            if component is not None:
                return _read_component(file, component, region)
            names = [name for name in COMPONENTS if name != "psf" or region is None]
            parts = {name: _read_component(file, name, region) for name in names}
            flux_scale = float(file["IMAGE"].read_header().get("FLUXSCAL", np.nan))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise SurveyError(f"{path} cannot be read: {reason}", "a complete FITS image", "run its step again") from error
    return MaskedImage(**parts, flux_scale=flux_scale)
