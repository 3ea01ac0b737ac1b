"""Reading raw DECam files: one detector out of 70 extensions, without touching the pixels of the others.

Detectors are found by CCDNUM: the order of extensions is the camera's own and changes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io.fits import Header

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.compressed import integers, is_ours, read_codes
from proc_decam_dagster.instrument.fits_blocks import DOWNLOAD_AGAIN, header_of, value, walk


@dataclass
class RawImage:
    """The raw pixels of one detector.

    Attributes
    ----------
    data : `numpy.ndarray`, (4146, 2160), uint16
        Raw ADU, overscan included.
    header : `astropy.io.fits.Header`
        Header of the detector's extension.
    primary : `astropy.io.fits.Header`
        Header of the exposure.
    """

    data: np.ndarray
    header: Header
    primary: Header

    @property
    def detector(self) -> int:
        """CCDNUM."""
        return int(self.header["CCDNUM"])


def scan_raw(path: str | Path) -> tuple[Header, dict[int, Header]]:
    """Return the primary header of a raw file, and the header of each science detector by CCDNUM.

    Guide and focus extensions are left out.

    Raises
    ------
    SurveyError
        Raised if the file is truncated, not FITS, or holds no science detector.
    """
    first, *others = walk(path)
    numbered = {value(each.cards, "CCDNUM", 0): each for each in others}
    detectors = {ccd: header_of(each) for ccd, each in sorted(numbered.items()) if ccd in DETECTORS}
    if not detectors:
        raise SurveyError(f"{path} holds no science detector in {len(others)} extensions", "CCDNUM 1 to 62")
    return header_of(first), detectors


def read_raw(path: str | Path, detector: int) -> RawImage:
    """Return the raw pixels of one detector.

    Parameters
    ----------
    path : path-like
        Raw file, fpacked or not.
    detector : `int`
        CCDNUM.

    Raises
    ------
    SurveyError
        Raised if the detector is not in the file, or its pixels cannot be had.
    """
    import fitsio

    primary, found = None, []
    for extension in walk(path):
        ccd = value(extension.cards, "CCDNUM", 0)
        if extension.number == 0:
            primary = extension
        elif ccd == detector:
            break
        else:
            found.append(ccd)
    else:
        present = ", ".join(str(ccd) for ccd in sorted(found) if ccd in DETECTORS) or "no science detector"
        raise SurveyError(f"{path} has no detector {detector}", f"one of those it holds: {present}")
    header = header_of(extension)
    unsigned = (header.get("ZBITPIX"), header.get("BZERO"), header.get("BSCALE", 1)) == (16, 32768, 1)
    try:
        if unsigned and is_ours(header):
            data = integers(read_codes(path, extension, header), np.uint16, header["BZERO"])
        else:
            data = fitsio.read(str(path), ext=extension.number)
    except OSError as error:
        reason = " ".join(str(error).split())
        found = f"{path}: the pixels of detector {detector} are damaged: {reason}"
        raise SurveyError(found, "", DOWNLOAD_AGAIN) from error
    return RawImage(data, header, header_of(primary))
