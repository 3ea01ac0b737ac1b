"""Images in Rice-compressed FITS tables: read and written with our own coder; other kinds are left to fitsio."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from astropy.io.fits import Header

from proc_decam_dagster.instrument import rice
from proc_decam_dagster.instrument.fits_blocks import BLOCK, Extension

DESCRIPTOR = 8
"""Bytes that say how many codes a row has, and where."""


class Codes(NamedTuple):
    """Codes of some rows of an image: bytes, and where each row starts and ends in them; columns; bytes a pixel."""

    data: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    columns: int
    pixel_bytes: int


def is_ours(header: Header) -> bool:
    """Whether a table's header is that of integers whose rows are Rice-coded: what fpack makes of an image."""
    named = {header.get(f"ZNAME{n}"): header.get(f"ZVAL{n}") for n in (1, 2)}
    wanted = {
        "ZCMPTYPE": "RICE_1", "TFIELDS": 1, "TTYPE1": "COMPRESSED_DATA", "NAXIS1": DESCRIPTOR, "ZNAXIS": 2,
        "ZTILE1": header.get("ZNAXIS1"), "ZTILE2": 1, "NAXIS2": header.get("ZNAXIS2"),
    }  # fmt: skip
    return (
        all(header.get(key) == value for key, value in wanted.items())
        and str(header.get("TFORM1")).startswith(("1PB", "PB"))
        and header.get("ZBITPIX") in (16, 32)
        and named.get("BLOCKSIZE", rice.BLOCK) == rice.BLOCK
        and named.get("BYTEPIX", 4) in (2, 4)
        and header.get("THEAP", DESCRIPTOR * header["NAXIS2"]) == DESCRIPTOR * header["NAXIS2"]
    )


def read_codes(path: str | Path, extension: Extension, header: Header, rows: slice = slice(None)) -> Codes:
    """Read the codes of some rows, and no others.

    Raises
    ------
    OSError
        Raised if the table points outside its extension.
    """
    first, past, _ = rows.indices(header["ZNAXIS2"])
    pixel_bytes = next((header[f"ZVAL{n}"] for n in (1, 2) if header.get(f"ZNAME{n}") == "BYTEPIX"), 4)
    with open(path, "rb") as file:
        file.seek(extension.data + DESCRIPTOR * first)
        table = np.frombuffer(file.read(DESCRIPTOR * (past - first)), ">u4").reshape(-1, 2).astype(np.int64)
        starts, stops = table[:, 1], table[:, 1] + table[:, 0]
        heap = extension.data + DESCRIPTOR * header["ZNAXIS2"]
        begin, end = int(starts.min(initial=0 if past == first else 2**32)), int(stops.max(initial=0))
        if heap + end > extension.end or (table[:, 0] < pixel_bytes).any():
            raise OSError(f"rows {first} to {past} point outside the extension")
        data = np.empty(end - begin + rice.SLACK, np.uint8)
        file.seek(heap + begin)
        file.readinto(memoryview(data)[: end - begin])
        data[end - begin :] = 0
    return Codes(data, starts - begin, stops - begin, header["ZNAXIS1"], pixel_bytes)


def integers(codes: Codes, dtype: type, zero: int = 0, columns: slice = slice(None)) -> np.ndarray:
    """Return the decoded rows plus ``zero``, (ny, nx).

    Raises
    ------
    OSError
        Raised if the codes are damaged.
    """
    x0, x1, _ = columns.indices(codes.columns)
    image = np.empty((len(codes.starts), x1 - x0), dtype)
    buffer = np.empty(codes.columns, np.int32)
    if not rice.decode(codes.data, codes.starts, codes.stops, codes.pixel_bytes, x0, zero, (image, buffer)):
        raise OSError("the compressed rows end too early")
    return image


def scaled(codes: Codes, scale: float, blank: int, null: float, columns: slice = slice(None)) -> np.ndarray:
    """Return the decoded rows times ``scale``, (ny, nx) float32, with ``null`` for ``blank``.

    Raises
    ------
    OSError
        Raised if the codes are damaged.
    """
    x0, x1, _ = columns.indices(codes.columns)
    image = np.empty((len(codes.starts), x1 - x0), np.float32)
    buffer = np.empty(codes.columns, np.int32)
    done = rice.decode_scaled(
        codes.data, codes.starts, codes.stops, x0, np.float32(scale), np.int32(blank), np.float32(null), (image, buffer)
    )
    if not done:
        raise OSError("the compressed rows end too early")
    return image


def write_integers(file: BinaryIO, image: np.ndarray, cards: Header) -> None:
    """Append an int32 image to a file as a Rice-compressed table; ``cards`` are those of the image."""
    ny, nx = image.shape
    codes, starts, stops = rice.encode(image)
    lengths = stops - starts
    header = Header(
        [
            ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", DESCRIPTOR), ("NAXIS2", ny),
            ("PCOUNT", len(codes)), ("GCOUNT", 1), ("TFIELDS", 1), ("TTYPE1", "COMPRESSED_DATA"),
            ("TFORM1", f"1PB({lengths.max(initial=0)})"), ("ZIMAGE", True), ("ZBITPIX", 32), ("ZNAXIS", 2),
            ("ZNAXIS1", nx), ("ZNAXIS2", ny), ("ZTILE1", nx), ("ZTILE2", 1), ("ZCMPTYPE", "RICE_1"),
            ("ZNAME1", "BLOCKSIZE"), ("ZVAL1", rice.BLOCK), ("ZNAME2", "BYTEPIX"), ("ZVAL2", 4),
        ]
    )  # fmt: skip
    header.extend(cards, strip=False)
    file.write(header.tostring().encode("ascii"))
    file.write(np.stack([lengths, starts], 1).astype(">u4").tobytes())
    file.write(codes)
    file.write(bytes(-(DESCRIPTOR * ny + len(codes)) % BLOCK))
