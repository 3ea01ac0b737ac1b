"""Rice coding of image rows, as FITS tile compression has it (RICE_1, blocks of 32 pixels, a row a tile).

A coder of our own, since those of the FITS libraries are most of the time that a CCD takes to be read and written.
"""

import sys

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
def _put(words, at, held, bits, value, n):  # pragma: no cover - compiled
    """Append up to 32 bits; return the new place, and what is held back: fewer than 32 bits, the first one highest.

    The word is written each time, whole or not: a branch that depends on the data takes five times as long.
    """
    held |= value << (np.uint64(64) - bits - n)
    bits += n
    words[at] = np.uint32(held >> np.uint64(32))
    full = bits >> np.uint64(5)
    return at + full, held << (full << np.uint64(5)), bits & np.uint64(31)


@jit
def _encode_row(row, words, at, codes):  # pragma: no cover - compiled
    """Write the codes of one row of int32 from a word on; return the next free word, and the bytes of the codes."""
    n, start = len(row), at
    zero, one, field, full = np.uint64(0), np.uint64(1), np.uint64(5), np.uint64(32)
    at, held, bits = _put(words, at, zero, zero, np.uint64(np.uint32(row[0])), full)
    codes[0] = 0
    before, after = row[: n - 1], row[1:]
    steps = codes[1:]
    for i in range(n - 1):  # by itself, so that it becomes vector instructions
        step = np.int32(after[i] - before[i])
        steps[i] = np.uint32(np.int32(step << np.int32(1)) ^ np.int32(step >> np.int32(31)))
    for first in range(0, n, BLOCK):
        block = codes[first : min(first + BLOCK, n)]
        count = len(block)
        total = zero
        for i in range(count):
            total += np.uint64(block[i])
        mean = np.int64(total) - count // 2 - 1
        half = (mean // count if mean > 0 else np.int64(0)) >> 1
        low = zero
        while half > 0:
            low += one
            half >>= 1
        if low >= np.uint64(25):
            at, held, bits = _put(words, at, held, bits, np.uint64(26), field)
            for i in range(count):
                at, held, bits = _put(words, at, held, bits, np.uint64(block[i]), full)
        elif total == zero:
            at, held, bits = _put(words, at, held, bits, zero, field)
        else:
            at, held, bits = _put(words, at, held, bits, low + one, field)
            mark = one << low
            for i in range(count):
                code = np.uint64(block[i])
                length = (code >> low) + one + low
                while length > full:
                    zeros = min(length - one - low, full)
                    at, held, bits = _put(words, at, held, bits, zero, zeros)
                    length -= zeros
                at, held, bits = _put(words, at, held, bits, mark | (code & (mark - one)), length)
    words[at] = np.uint32(held >> full)
    used = np.uint64(4) * (at - start) + ((bits + np.uint64(7)) >> np.uint64(3))
    return at + np.uint64(bits > zero), used


@jit
def _encode(image, words, starts, stops):  # pragma: no cover - compiled
    at = np.uint64(0)
    codes = np.empty(image.shape[1], np.uint32)
    for y in range(image.shape[0]):
        starts[y] = np.uint64(4) * at
        at, used = _encode_row(image[y], words, at, codes)
        stops[y] = starts[y] + np.int64(used)


def encode(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the codes of all rows of an int32 image, uint8, and where each row's start and end, int64.

    Each row starts at a multiple of four bytes.
    """
    ny, nx = image.shape
    words_of_row = 1 + nx + nx // BLOCK // 4 + 2
    words = np.empty(ny * words_of_row + 1, np.uint32)
    starts, stops = np.empty(ny, np.int64), np.empty(ny, np.int64)
    _encode(np.ascontiguousarray(image, np.int32), words, starts, stops)
    words = words[: -(-int(stops[-1]) // 4)]
    if sys.byteorder == "little":
        words.byteswap(inplace=True)
    return words.view(np.uint8)[: stops[-1]], starts, stops
