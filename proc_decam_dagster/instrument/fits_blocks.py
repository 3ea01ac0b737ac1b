"""The layout of a FITS file: where each HDU's header and data stand, without reading pixels."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io.fits import Header

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


def value(cards: bytes, keyword: str, default: int | None = None) -> int:
    """Return an integer of a header that `walk` yielded.

    Raises
    ------
    ValueError
        Raised if it is not there and has no default.
    """
    match = re.search(rb"(?:^|\x00)" + keyword.encode().ljust(8) + rb"= *([-\d]+)", cards)
    if match is None:
        if default is None:
            raise ValueError(f"{keyword} is missing")
        return default
    return int(match[1])


def _data_size(cards: bytes) -> int:
    axes = [value(cards, f"NAXIS{n}") for n in range(1, value(cards, "NAXIS") + 1)]
    if not axes:
        return 0
    elements = value(cards, "GCOUNT", 1) * (value(cards, "PCOUNT", 0) + int(np.prod(axes, dtype=np.int64)))
    return abs(value(cards, "BITPIX")) // 8 * elements


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
