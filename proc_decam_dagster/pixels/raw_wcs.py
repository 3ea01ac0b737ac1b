"""The WCS of a raw header, brought to the trimmed image."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning

CARDS = re.compile(r"^(CTYPE|CRVAL|CRPIX|CUNIT)[12]$|^CD[12]_[12]$|^PV[12]_\d+$|^(RADESYS|EQUINOX)$")


def trimmed_wcs(header: Mapping[str, Any], offset: tuple[float, float], shape: tuple[int, int]) -> WCS | None:
    """Return the WCS of a raw header in the trimmed image's pixels.

    Parameters
    ----------
    header : mapping
        Raw header: TPV (or TAN) in the pixels of the raw array.
    offset : `tuple` [`float`, `float`]
        Raw pixel (x, y) of the trimmed image's first pixel, where the header has no ``LTV1, LTV2``.
    shape : `tuple` [`int`, `int`]
        Shape (ny, nx) of the trimmed image.

    Returns
    -------
    wcs : `astropy.wcs.WCS` or `None`
        `None` where the header holds none (zeros, dome flats).
    """
    if "CTYPE1" not in header or "CRPIX1" not in header or "CD1_1" not in header:
        return None
    trimmed = Header()
    trimmed["NAXIS"], trimmed["NAXIS1"], trimmed["NAXIS2"] = 2, shape[1], shape[0]
    for key in header:
        if CARDS.match(key):
            trimmed[key] = header[key]
    for axis in (0, 1):
        trimmed[f"CRPIX{axis + 1}"] -= float(header.get(f"LTV{axis + 1}", offset[axis]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(trimmed)
