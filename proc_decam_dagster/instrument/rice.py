"""Rice coding of image rows, as FITS tile compression has it (RICE_1, blocks of 32 pixels, a row a tile).

A coder of our own, since those of the FITS libraries are most of the time that a CCD takes to be read and written.
"""

import numpy as np

from proc_decam_dagster.pixels.jit import jit

BLOCK = 32
"""Pixels that share a number of low bits."""

SLACK = 256
"""Zero bytes wanted after the codes: more than a damaged block can lead the decoder beyond their end."""

ZEROS = np.array([8 - int(byte).bit_length() for byte in range(256)], np.uint8)
"""Leading zeros of a byte."""


@jit
def _window(data, bit):  # pragma: no cover - compiled
    """Return the bits from a position on, 57 of them at least, the first one highest."""
    at = bit >> np.uint64(3)
    word = np.uint64(0)
    for k in range(8):
        word = (word << np.uint64(8)) | np.uint64(data[at + np.uint64(k)])
    return word << (bit & np.uint64(7))


@jit
def _decode_row(data, start, stop, pixel_bytes, row):  # pragma: no cover - compiled
    """Unpack one row; return whether its codes sufficed."""
    one = np.uint64(1)
    width = np.uint64(8 * pixel_bytes)
    field = np.uint64(5 if pixel_bytes == 4 else 4)
    raw = np.int64(25 if pixel_bytes == 4 else 14)
    bit = np.uint64(8) * np.uint64(start)
    end = np.uint64(8) * np.uint64(stop)
    last = np.int64(_window(data, bit) >> (np.uint64(64) - width))
    bit += width
    for first in range(0, len(row), BLOCK):
        if bit + field > end:
            return False
        low = np.int64(_window(data, bit) >> (np.uint64(64) - field)) - 1
        bit += field
        past = min(first + BLOCK, len(row))
        if low < 0:
            for i in range(first, past):
                row[i] = last
        elif low >= raw:
            for i in range(first, past):
                code = _window(data, bit) >> (np.uint64(64) - width)
                bit += width
                last += np.int64(code >> one) ^ -np.int64(code & one)
                row[i] = last
        else:
            bits = np.uint64(low)
            for i in range(first, past):
                word = _window(data, bit)
                high = np.uint64(0)
                while word >> np.uint64(56) == 0:
                    high += np.uint64(8)
                    bit += np.uint64(8)
                    if bit >= end:
                        return False
                    word = _window(data, bit)
                zeros = np.uint64(ZEROS[word >> np.uint64(56)])
                rest = word << (zeros + one)
                code = ((high + zeros) << bits) | (rest >> one >> (np.uint64(63) - bits))
                bit += zeros + one + bits
                last += np.int64(code >> one) ^ -np.int64(code & one)
                row[i] = last
        if bit > end:
            return False
    return True


@jit
def decode(data, starts, stops, pixel_bytes, x0, zero, out):  # pragma: no cover - compiled
    """Unpack rows of integers; return whether all could be.

    Parameters
    ----------
    data : `numpy.ndarray`, (n,), uint8
        Codes, and `SLACK` zero bytes.
    starts, stops : `numpy.ndarray`, (ny,), int64
        Of each row's codes in the data.
    pixel_bytes : `int`
        Of the integers that were coded, 2 or 4.
    x0 : `int`
        First column wanted.
    zero : `int`
        Added to the integers.
    out : `numpy.ndarray`, (ny, nx), integer, and (ny, nx_coded), int32
        Rows, changed; and the buffer of one row as it was coded.
    """
    image, row = out
    for y in range(len(starts)):
        if not _decode_row(data, starts[y], stops[y], pixel_bytes, row):
            return False
        for x in range(image.shape[1]):
            image[y, x] = row[x0 + x] + zero
    return True


@jit
def decode_scaled(data, starts, stops, x0, scale, blank, null, out):  # pragma: no cover - compiled
    """Unpack rows of int32 as `decode` does, times a scale, float32; those that are ``blank`` become ``null``."""
    image, row = out
    for y in range(len(starts)):
        if not _decode_row(data, starts[y], stops[y], 4, row):
            return False
        for x in range(image.shape[1]):
            value = row[x0 + x]
            image[y, x] = null if value == blank else np.float32(value) * scale
    return True


@jit
def _put(out, at, held, bits, value, n):  # pragma: no cover - compiled
    """Append up to 32 bits; return the new place, and what is held back: fewer than 32 bits."""
    held = (held << np.uint64(n)) | value
    bits += n
    if bits >= 32:
        bits -= 32
        word = held >> np.uint64(bits)
        out[at] = np.uint8(word >> np.uint64(24))
        out[at + 1] = np.uint8(word >> np.uint64(16))
        out[at + 2] = np.uint8(word >> np.uint64(8))
        out[at + 3] = np.uint8(word)
        at += 4
    return at, held, bits


@jit
def _encode_row(row, out, at, codes):  # pragma: no cover - compiled
    """Append the codes of one row of int32; return where they end."""
    n = len(row)
    at, held, bits = _put(out, at, np.uint64(0), 0, np.uint64(np.uint32(row[0])), 32)
    codes[0] = 0
    before, after = row[: n - 1], row[1:]
    steps = codes[1:]
    for i in range(n - 1):  # by itself, so that it becomes vector instructions
        step = np.int32(after[i] - before[i])
        steps[i] = np.uint32(np.int32(step << np.int32(1)) ^ np.int32(step >> np.int32(31)))
    for first in range(0, n, BLOCK):
        past = min(first + BLOCK, n)
        count = past - first
        total = np.uint64(0)
        for i in range(first, past):
            total += np.uint64(codes[i])
        mean = np.int64(total) - count // 2 - 1
        half = (mean // count if mean > 0 else np.int64(0)) >> 1
        low = 0
        while half > 0:
            low += 1
            half >>= 1
        if low >= 25:
            at, held, bits = _put(out, at, held, bits, np.uint64(26), 5)
            for i in range(first, past):
                at, held, bits = _put(out, at, held, bits, np.uint64(codes[i]), 32)
        elif total == 0:
            at, held, bits = _put(out, at, held, bits, np.uint64(0), 5)
        else:
            at, held, bits = _put(out, at, held, bits, np.uint64(low + 1), 5)
            mark = np.uint32(1) << np.uint32(low)
            for i in range(first, past):
                zeros = np.int64(codes[i] >> np.uint32(low))
                while zeros + low >= 32:
                    n_zeros = min(zeros, 32)
                    at, held, bits = _put(out, at, held, bits, np.uint64(0), n_zeros)
                    zeros -= n_zeros
                value = np.uint64(mark | (codes[i] & (mark - np.uint32(1))))
                at, held, bits = _put(out, at, held, bits, value, zeros + 1 + low)
    while bits > 0:
        shift = bits - 8
        out[at] = np.uint8(held >> np.uint64(shift)) if shift >= 0 else np.uint8(held << np.uint64(-shift))
        at += 1
        bits -= 8
    return at


@jit
def _encode(image, out, stops):  # pragma: no cover - compiled
    at = 0
    codes = np.empty(image.shape[1], np.uint32)
    for y in range(image.shape[0]):
        at = _encode_row(image[y], out, at, codes)
        stops[y] = at


def encode(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of all rows of an int32 image, uint8, and where each row's end, int64."""
    ny, nx = image.shape
    worst = 4 + 4 * nx + nx // BLOCK + 2
    out = np.empty(ny * worst, np.uint8)
    stops = np.empty(ny, np.int64)
    _encode(np.ascontiguousarray(image, np.int32), out, stops)
    return out[: stops[-1]], stops
