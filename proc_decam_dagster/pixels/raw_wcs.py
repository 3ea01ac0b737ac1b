"""The WCS of a raw header: telescope pointing and nominal distortion, in the trimmed image's pixels."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning

CARDS = re.compile(r"^(CTYPE|CRVAL|CRPIX|CUNIT)[12]$|^CD[12]_[12]$|^PV[12]_\d+$|^(RADESYS|EQUINOX)$")


def trimmed_wcs(header: Mapping[str, Any], shape: tuple[int, int]) -> WCS | None:
    """Return the WCS of a raw header in the trimmed image's pixels.

    Parameters
    ----------
    header : mapping
        Raw header of the CCD: TPV (or TAN).
    shape : `tuple` [`int`, `int`]
        Shape (ny, nx) of the trimmed image.

    Returns
    -------
    wcs : `astropy.wcs.WCS` or `None`
        `None` where the header holds none (zeros, dome flats).

    Notes
    -----
    CRPIX of a raw header counts in the trimmed image, although its LTV1, LTV2 (56, 50 or 0) suggest the raw array:
    for CCD 25 it is (2151.2, 14826.0), and measured solutions of trimmed images say the same (`decam.wcs`: 2150.2,
    14825.0 where one edge pixel is cut). Subtracting LTV would put every frame 14 arcsec off.
    """
    if "CTYPE1" not in header or "CRPIX1" not in header or "CD1_1" not in header:
        return None
    trimmed = Header()
    trimmed["NAXIS"], trimmed["NAXIS1"], trimmed["NAXIS2"] = 2, shape[1], shape[0]
    for key in header:
        if CARDS.match(key):
            trimmed[key] = header[key]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(trimmed)
