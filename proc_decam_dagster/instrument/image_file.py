"""The file of a `MaskedImage`: compressed FITS that any FITS reader opens.

Image and variance are stored as scaled integers (BSCALE, BLANK), RICE-compressed; the mask losslessly. The step is
1/16 of the pixel noise, so that rounding adds 0.03 % to the noise variance and, being far below it, no bias; pixels
that are all whole numbers keep their exact values. One step serves the whole image.
Non-finite pixels are stored as FITS nulls: they come back as NaN in the image, and as infinity in the variance,
where both say that nothing is known of the pixel.
"""

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io.fits import Header, ImageHDU, PrimaryHDU

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.compressed import integers, is_ours, read_codes, scaled, write_integers
from proc_decam_dagster.instrument.fits_blocks import BLOCK, header_of, walk
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
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


def _whole(image: np.ndarray) -> bool:
    """Whether all finite pixels are whole numbers: a few rows tell of most images that they are not."""
    for rows in (image[:: max(1, image.shape[0] // 16)], image):
        finite = rows[np.isfinite(rows)]
        if not np.array_equal(finite, np.rint(finite)):
            return False
    return True


def _image_step(image: np.ndarray, variance: np.ndarray) -> float:
    if _whole(image):
        return 1.0
    known = variance[:: max(1, image.shape[0] // 256)]
    known = known[np.isfinite(known) & (known > 0)]
    noises = [noise(image), np.sqrt(np.percentile(known, 5)) if known.size else np.nan]
    return float(np.nanmin(noises)) / STEPS_IN_NOISE if np.isfinite(noises).any() else float("nan")


def _variance_step(variance: np.ndarray) -> float:
    for some in (variance.ravel()[:: max(1, variance.size // 100_000)], variance):
        known = some[np.isfinite(some) & (some > 0)]
        if known.size:
            return VARIANCE_STEP * float(np.percentile(known, 1))
    return 1.0


@jit
def _quantise(values, inverse, integers):  # pragma: no cover - compiled
    """Round values in units of a step; return whether all finite ones fit."""
    fit = True
    largest = np.float32(LARGEST)
    for y in range(values.shape[0]):
        row, out = values[y], integers[y]
        for x in range(len(row)):
            units = np.rint(row[x] * inverse)
            fits = abs(units) <= largest
            out[x] = np.int32(units) if fits else np.int32(BLANK)
            fit = fit and (fits or not np.isfinite(row[x]))
    return fit


def _to_integers(values: np.ndarray, step: float) -> np.ndarray | None:
    """Return values in units of a step, int32 with `BLANK` where not finite; None if they do not fit."""
    integers = np.empty(values.shape, np.int32)
    if not np.isfinite(step) or step <= 0 or not _quantise(values, np.float32(1 / step), integers):
        return None
    return integers


def _write_plane(file: BinaryIO, name: str, values: np.ndarray, step: float, cards: dict[str, Any]) -> None:
    header = Header({"EXTNAME": name} | cards)
    integers = _to_integers(values, step)
    if integers is None:
        # Too great a range for 31 bits above the noise: exact, and larger.
        exact = np.where(np.isfinite(values), values, np.float32(np.nan))
        file.write(_plain_hdu(ImageHDU(exact, header)))
        return
    header.update({"BSCALE": float(np.float32(step)), "BZERO": 0.0, "BLANK": BLANK})
    write_integers(file, integers, header)


def _plain_hdu(hdu: Any) -> bytes:
    """Return an HDU as it stands in a file."""
    stream = io.BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()[BLOCK:]  # without the empty primary HDU that it is written behind


def write_image(path: str | Path, image: MaskedImage) -> None:
    """Write an image to a new FITS file.

    HDUs: IMAGE (with WCS, FLUXSCAL), VARIANCE, MASK (bits in MP_* cards), PSF if there is one, METADATA.
    """
    cards = {} if image.wcs is None else dict(image.wcs.to_header(relax=True))
    if np.isfinite(image.flux_scale):
        cards["FLUXSCAL"] = float(image.flux_scale)
    pixels = np.ascontiguousarray(image.image, np.float32)
    variance = np.ascontiguousarray(image.variance, np.float32)
    with open(path, "wb") as file:
        file.write(PrimaryHDU().header.tostring().encode("ascii"))
        _write_plane(file, "IMAGE", pixels, _image_step(pixels, variance), cards)
        _write_plane(file, "VARIANCE", variance, _variance_step(variance), {})
        bits = {f"MP_{name[:5]}": int(np.log2(bit)) for name, bit in BIT.items() if name != "DETECTED_NEGATIVE"}
        bits["MP_DETNE"] = int(np.log2(BIT["DETECTED_NEGATIVE"]))
        write_integers(file, np.ascontiguousarray(image.mask, np.int32), Header({"EXTNAME": "MASK"} | bits))
        if image.psf is not None:
            psf = image.psf
            shape = {"EXTNAME": "PSF", "DEGREE": psf.degree, "IMAGENX": psf.shape[1], "IMAGENY": psf.shape[0]}
            file.write(_plain_hdu(ImageHDU(np.asarray(psf.coefficients), Header(shape))))
        text = json.dumps(image.metadata, default=_plain).encode()
        kind = Header({"EXTNAME": "METADATA", "CONTENT": "JSON, UTF-8"})
        file.write(_plain_hdu(ImageHDU(np.frombuffer(text, np.uint8), kind)))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"metadata value {value!r} is neither a scalar nor a list")


def _columns(region: tuple | None) -> tuple[slice, slice]:
    return region or (slice(None), slice(None))


def _read_plane(file: "_File", name: str, null: float, region: tuple | None) -> np.ndarray:
    rows, columns = _columns(region)
    header = file.header(name)
    if "BLANK" in header and is_ours(header):
        codes = read_codes(file.path, file.extensions[name], header, rows)
        return scaled(codes, header["BSCALE"], header["BLANK"], null, columns)
    values = file.pixels(name, region).astype(np.float32, copy=False)
    values[~np.isfinite(values)] = null
    return values


def _read_mask(file: "_File", region: tuple | None) -> np.ndarray:
    rows, columns = _columns(region)
    header = file.header("MASK")
    if is_ours(header):
        return integers(read_codes(file.path, file.extensions["MASK"], header, rows), np.int32, columns=columns)
    return file.pixels("MASK", region).astype(np.int32, copy=False)


class _File:
    """An image's file: where its HDUs stand, by name."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.extensions = {}
        for extension in walk(path):
            if extension.number:
                self.extensions[header_of(extension)["EXTNAME"]] = extension

    def header(self, name: str) -> Header:
        """Return an HDU's header as it stands in the file."""
        return header_of(self.extensions[name])

    def pixels(self, name: str, region: tuple | None = None) -> np.ndarray:
        """Return an HDU's pixels, whatever its kind."""
        import fitsio

        with fitsio.FITS(str(self.path)) as file:
            return file[name].read() if region is None else file[name][region]


def _read_component(file: _File, component: str, region: tuple | None) -> Any:
    if component == "image":
        return _read_plane(file, "IMAGE", np.nan, region)
    if component == "variance":
        return _read_plane(file, "VARIANCE", np.inf, region)
    if component == "mask":
        return _read_mask(file, region)
    if component == "wcs":
        return _read_wcs(file.header("IMAGE"), region)
    if component == "psf":
        if "PSF" not in file.extensions:
            return None
        header = file.header("PSF")
        coefficients = file.pixels("PSF")
        coefficients = coefficients.astype(coefficients.dtype.newbyteorder("="), copy=False)
        return PsfModel(coefficients, int(header["DEGREE"]), (int(header["IMAGENY"]), int(header["IMAGENX"])))
    if component == "metadata":
        return json.loads(file.pixels("METADATA").tobytes())
    raise ValueError(f"component {component!r} is none of {COMPONENTS}")


def _read_wcs(header: Any, region: tuple | None) -> Any:
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
    region = None if bbox is None else (slice(bbox[1], bbox[3]), slice(bbox[0], bbox[2]))
    try:
        file = _File(path)
        if component is not None:
            return _read_component(file, component, region)
        names = [name for name in COMPONENTS if name != "psf" or region is None]
        parts = {name: _read_component(file, name, region) for name in names}
        flux_scale = float(file.header("IMAGE").get("FLUXSCAL", np.nan))
    except (OSError, KeyError, SurveyError) as error:
        reason = " ".join(str(error).split())
        raise SurveyError(f"{path} cannot be read: {reason}", "a complete FITS image", "run its step again") from error
    return MaskedImage(**parts, flux_scale=flux_scale)
