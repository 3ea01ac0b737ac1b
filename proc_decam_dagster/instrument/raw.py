"""Reading raw DECam files: one detector out of 70 extensions, without touching the pixels of the others.

Detectors are found by CCDNUM: the order of extensions is the camera's own and changes.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io.fits import Header

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.errors import SurveyError

BLOCK = 2880
"""Bytes of a FITS block: headers and data are padded to whole blocks."""

CARD = 80
DOWNLOAD_AGAIN = "delete the file and run `proc-decam download` again"


class Extension(NamedTuple):
    """Where an extension stands in its file: number, first byte of its data, first byte after it, its header."""

    number: int
    data: int
    end: int
    cards: bytes


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


def _value(cards: bytes, keyword: str, default: int | None = None) -> int:
    match = re.search(rb"(?:^|\x00)" + keyword.encode().ljust(8) + rb"= *([-\d]+)", cards)
    if match is None:
        if default is None:
            raise ValueError(f"{keyword} is missing")
        return default
    return int(match[1])


def _data_size(cards: bytes) -> int:
    axes = [_value(cards, f"NAXIS{n}") for n in range(1, _value(cards, "NAXIS") + 1)]
    if not axes:
        return 0
    elements = _value(cards, "GCOUNT", 1) * (_value(cards, "PCOUNT", 0) + int(np.prod(axes, dtype=np.int64)))
    return abs(_value(cards, "BITPIX")) // 8 * elements


def walk(path: str | Path):
    """Yield each HDU of a FITS file, reading headers only and seeking over the data.

    Parameters
    ----------
    path : path-like
        FITS file, compressed by tiles (fpack) or not.

    Yields
    ------
    extension : `Extension`
        ``cards`` is the header with a NUL between cards, for `header_of`.

    Raises
    ------
    SurveyError
        Raised if the file is not FITS, or ends before an HDU does.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise SurveyError(f"{path} cannot be read: {error.strerror}", "a raw DECam file") from error
    with file:
        size = file.seek(0, 2)
        position = file.seek(0)
        number = 0
        while position < size or number == 0:
            cards: list[bytes] = []
            while not cards or not cards[-1].startswith(b"END     "):
                block = file.read(BLOCK)
                position += len(block)
                if number == 0 and not cards and not block.startswith(b"SIMPLE  ="):
                    raise SurveyError(f"{path} is not a FITS file ({size} bytes)", "SIMPLE first", DOWNLOAD_AGAIN)
                if len(block) < BLOCK:
                    raise _truncated(path, size, position - len(block) + BLOCK)
                cards += [card for i in range(0, BLOCK, CARD) if (card := block[i : i + CARD]).strip()]
            try:
                header = b"\0".join(cards)
                end = position + -(-_data_size(header) // BLOCK) * BLOCK
            except ValueError as error:
                raise SurveyError(f"{path}: header {number} is damaged: {error}", "FITS", DOWNLOAD_AGAIN) from error
            if end > size:
                raise _truncated(path, size, end)
            yield Extension(number, position, end, header)
            position = file.seek(end)
            number += 1


def _truncated(path: Path, found: int, expected: int) -> SurveyError:
    return SurveyError(f"{path} is truncated: {found} bytes", f"at least {expected}", DOWNLOAD_AGAIN)


def header_of(extension: Extension) -> Header:
    """Return the header of an extension."""
    return Header.fromstring(extension.cards.replace(b"\0", b"").decode("ascii", "replace"))


def scan_raw(path: str | Path) -> tuple[Header, dict[int, Header]]:
    """Return the primary header of a raw file, and the header of each science detector by CCDNUM.

    Guide and focus extensions are left out.

    Raises
    ------
    SurveyError
        Raised if the file is truncated, not FITS, or holds no science detector.
    """
    first, *others = walk(path)
    numbered = {_value(each.cards, "CCDNUM", 0): each for each in others}
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
        ccd = _value(extension.cards, "CCDNUM", 0)
        if extension.number == 0:
            primary = extension
        elif ccd == detector:
            break
        else:
            found.append(ccd)
    else:
        present = ", ".join(str(ccd) for ccd in sorted(found) if ccd in DETECTORS) or "no science detector"
        raise SurveyError(f"{path} has no detector {detector}", f"one of those it holds: {present}")
    try:
        data = fitsio.read(str(path), ext=extension.number)
    except OSError as error:
        reason = " ".join(str(error).split())
        found = f"{path}: the pixels of detector {detector} are damaged: {reason}"
        raise SurveyError(found, "", DOWNLOAD_AGAIN) from error
    return RawImage(data, header_of(extension), header_of(primary))
