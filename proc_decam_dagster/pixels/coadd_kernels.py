"""Compiled kernels of the coadd: the statistics of a stack of warped rows.

All take the stack, (n, ny_stack, nx), as ``images``, ``variances`` and ``masks``, and use its rows from ``first`` on;
``usable``, (n, ny, nx), uint8, and all outputs, (ny, nx), hold these rows only. Loops run along short pieces of rows,
which stay in the processor's cache and become vector instructions.
"""

import numpy as np

from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.mask import HUGE

PIECE = 512
SHORT = 128
"""Pixels that are gone through one by one where one of them is an outlier."""
_INFINITY = np.float32(np.inf)


def sorting_network(n: int) -> np.ndarray:
    """Return the pairs to be compared, and exchanged if out of order, that sort n values, (m, 2) (Batcher 1968)."""
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    return np.array(pairs, np.int64).reshape(-1, 2)


@jit
def mark_usable(images, variances, masks, bits, first, usable):
    """Write which inputs have a value, a variance, and none of the mask's ``bits``."""
    n, ny, nx = usable.shape
    for k in range(n):
        for j in range(ny):
            image, variance, mask = images[k, first + j], variances[k, first + j], masks[k, first + j]
            good = usable[k, j]
            for i in range(nx):
                good[i] = ((mask[i] & bits) == 0) & (abs(image[i]) < HUGE) & (abs(variance[i]) < HUGE)


@jit
def median_of_stack(images, usable, first, network, out):
    """Write the median over the usable inputs of every pixel; NaN where there is none.

    Parameters
    ----------
    network : `numpy.ndarray`, (m, 2)
        See `sorting_network`: all pixels of a piece are sorted at once.
    """
    n, ny, nx = usable.shape
    ordered = np.empty((n, PIECE), np.float32)
    keys = ordered.view(np.int32)
    count = np.empty(PIECE, np.int32)
    for j in range(ny):
        for start in range(0, nx, PIECE):
            size = min(PIECE, nx - start)
            count[:] = 0
            for k in range(n):
                row, good, values = images[k, first + j, start : start + size], usable[k, j, start:], ordered[k]
                for i in range(size):
                    value = row[i]
                    values[i] = value if good[i] else _INFINITY
                    count[i] += good[i]
                _turn(keys[k], size)
            for pair in range(len(network)):
                low, high = keys[network[pair, 0]], keys[network[pair, 1]]
                for i in range(size):
                    a, b = low[i], high[i]
                    low[i] = min(a, b)
                    high[i] = max(a, b)
            for k in range(n):
                _turn(keys[k], size)
            for i in range(size):
                number = count[i]
                if number == 0:
                    out[j, start + i] = np.nan
                else:
                    middle = ordered[(number - 1) // 2, i] + ordered[number // 2, i]
                    out[j, start + i] = np.float32(0.5) * middle


@jit
def _turn(keys, size):
    """Turn the bits of floats into integers of the same order, or back.

    Exchanged as floats, of which one may be NaN for all that the compiler knows, they would become masked stores, which
    many processors do ten times slower.
    """
    for i in range(size):
        keys[i] ^= (keys[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)


@jit
def strongest(image, half, out):
    """Write the maximum over the square of ``2 half + 1`` pixels around each; pixels without a value count as 0."""
    ny, nx = image.shape
    along = np.empty_like(image)
    padded = np.zeros(nx + 2 * half, np.float32)
    for j in range(ny):
        row, inner = image[j], padded[half:]
        for i in range(nx):
            value = row[i]
            inner[i] = value if value == value else np.float32(0)
        # beyond the edges nothing can be the maximum
        padded[:half] = -_INFINITY
        padded[half + nx :] = -_INFINITY
        target = along[j]
        target[:] = padded[half : half + nx]
        for shift in range(1, half + 1):
            _raise(target, padded[half - shift :], padded[half + shift :], nx)
    for j in range(ny):
        target = out[j]
        target[:] = along[j]
        for shift in range(1, half + 1):
            _raise(target, along[max(j - shift, 0)], along[min(j + shift, ny - 1)], nx)


@jit
def _raise(target, first, second, n):
    """Raise ``n`` pixels to those of two other rows; by one row at a time it would become slow masked stores."""
    for i in range(n):
        target[i] = max(first[i], max(second[i], target[i]))


@jit
def reject_outliers(images, variances, usable, first, reference, strength, tolerance, n_sigma, n_sigma_near):
    """Clear, in ``usable``, inputs that differ from the reference.

    An input is rejected where it differs by more than ``n_sigma`` times its noise plus ``tolerance`` times the local
    strength of the sky's signal; then its neighbours too, where they differ by ``n_sigma_near`` times the noise.
    Pixels with fewer than 3 inputs are left alone: nothing tells there which one is wrong.

    Parameters
    ----------
    reference, strength : `numpy.ndarray`, (ny, nx), float32
        Median, and its maximum over the neighbourhood.
    tolerance : `numpy.ndarray`, (n,), float32
        Largest difference of each input's PSF from the median's, in units of the neighbourhood's maximum.
    n_sigma, n_sigma_near : `float`
        The latter is the smaller one.
    """
    n, ny, nx = usable.shape
    far, near = np.float32(n_sigma * n_sigma), np.float32(n_sigma_near * n_sigma_near)
    enough = np.zeros((ny, nx), np.uint8)
    for k in range(n):
        for j in range(ny):
            for i in range(nx):
                enough[j, i] += usable[k, j, i] if enough[j, i] < 3 else 0
    hit = np.empty((ny, nx), np.uint8)
    pieces = (nx + SHORT - 1) // SHORT
    found = np.empty((ny, pieces), np.int32)
    for k in range(n):
        for j in range(ny):
            for piece in range(pieces):
                start = piece * SHORT
                size = min(SHORT, nx - start)
                image, variance = images[k, first + j, start : start + size], variances[k, first + j, start:]
                good, row = usable[k, j, start:], hit[j, start:]
                middle, highest, three = reference[j, start:], strength[j, start:], enough[j, start:]
                number = np.int32(0)
                for i in range(size):
                    excess = abs(image[i] - middle[i]) - tolerance[k] * max(highest[i], np.float32(0))
                    square = excess * excess
                    possible = (good[i] != 0) & (three[i] == 3) & (excess > 0)
                    strong = possible & (square > far * variance[i])
                    row[i] = np.uint8(strong) + np.uint8(possible & (square > near * variance[i]))
                    number += np.int32(strong)
                found[j, piece] = number
        for j in range(ny):
            for piece in range(pieces):
                if found[j, piece] == 0:
                    continue
                for i in range(piece * SHORT, min((piece + 1) * SHORT, nx)):
                    if hit[j, i] != 2:
                        continue
                    for b in range(max(j - 1, 0), min(j + 2, ny)):
                        for a in range(max(i - 1, 0), min(i + 2, nx)):
                            if hit[b, a] != 0:
                                usable[k, b, a] = 0


@jit
def weighted_mean(images, variances, usable, first, weights, out, out_variance):
    """Write the weighted mean over the usable inputs and its variance; NaN and infinity where there is none.

    Parameters
    ----------
    weights : `numpy.ndarray`, (n,), float32
        Weight of each input, the same for all its pixels.
    """
    n, ny, nx = usable.shape
    total, spread, weight = np.empty(PIECE, np.float32), np.empty(PIECE, np.float32), np.empty(PIECE, np.float32)
    zero = np.float32(0)
    for j in range(ny):
        for start in range(0, nx, PIECE):
            size = min(PIECE, nx - start)
            total[:], spread[:], weight[:] = 0, 0, 0
            for k in range(n):
                w = weights[k]
                image, variance = images[k, first + j, start : start + size], variances[k, first + j, start:]
                good = usable[k, j, start:]
                for i in range(size):
                    value, error = image[i], variance[i]
                    total[i] += w * value if good[i] else zero
                    spread[i] += w * w * error if good[i] else zero
                    weight[i] += w if good[i] else zero
            mean, error = out[j, start : start + size], out_variance[j, start:]
            for i in range(size):
                mean[i] = total[i] / weight[i] if weight[i] > 0 else np.nan
                error[i] = spread[i] / (weight[i] * weight[i]) if weight[i] > 0 else _INFINITY


@jit
def median_variance(variances, usable, first, out_variance):
    """Write the variance of the median of Gaussian inputs.

    It is that of the unweighted mean times π/2 for many inputs; for few, the median is nearer to the mean.
    """
    n, ny, nx = usable.shape
    for j in range(ny):
        for i in range(nx):
            total = np.float32(0)
            count = 0
            for k in range(n):
                if usable[k, j, i]:
                    total += variances[k, first + j, i]
                    count += 1
            if count == 0:
                out_variance[j, i] = np.inf
                continue
            if count < 3:
                ratio = 1.0
            elif count % 2:
                ratio = 0.5 * np.pi / (1 + 0.5 / count)
            else:
                ratio = 0.5 * np.pi / (1 + 1.27 / count)
            out_variance[j, i] = ratio * total / (count * count)


@jit
def minimum(images, variances, usable, first, out, out_variance):
    """Write the smallest usable input and that input's variance; NaN and infinity where there is none."""
    n, ny, nx = usable.shape
    for j in range(ny):
        for i in range(nx):
            best = np.float32(np.inf)
            spread = np.float32(np.inf)
            for k in range(n):
                if usable[k, j, i] and images[k, first + j, i] < best:
                    best = images[k, first + j, i]
                    spread = variances[k, first + j, i]
            out[j, i] = best if spread < _INFINITY else np.nan
            out_variance[j, i] = spread


@jit
def finish(masks, usable, first, bits, clipped_bit, nodata_bit, image, out_mask, out_count,
           weights, ratios, factor, out_variance):  # fmt: skip
    """Write the mask and the number of inputs, and add to the variance what missing inputs make of the PSF.

    The mask has the bits of the inputs used, and those of the ones left out only where none was used. A star's pixels
    are wrong in proportion to their values where the inputs that were used have another PSF than the coadd.

    Parameters
    ----------
    bits : `int`
        An input with none of them that was not used has been clipped.
    image : `numpy.ndarray`, (ny, nx), float32
        The coadd.
    weights : `numpy.ndarray`, (n,), float32
        Weight of each input in the PSF.
    ratios : `numpy.ndarray`, (n,), float32
        Flux of a star of each input as the coadd's PSF measures it, relative to its true flux.
    factor : `float`
        Errors of pixels per error of a star's flux.
    out_variance : `numpy.ndarray`, (ny, nx), float32
        Changed in place.

    Returns
    -------
    used, clipped : `int`
        Number of input pixels.
    """
    n, ny, nx = usable.shape
    used, left_out = np.empty(PIECE, np.int16), np.empty(PIECE, np.int16)
    count, lost = np.empty(PIECE, np.int16), np.empty(PIECE, np.int16)
    total, flux = np.empty(PIECE, np.float32), np.empty(PIECE, np.float32)
    none, zero = np.int16(0), np.float32(0)
    sum_used = sum_lost = 0
    for j in range(ny):
        for start in range(0, nx, PIECE):
            size = min(PIECE, nx - start)
            used[:], left_out[:], count[:], lost[:], total[:], flux[:] = 0, 0, 0, 0, 0, 0
            for k in range(n):
                mask, good = masks[k, first + j, start : start + size], usable[k, j, start:]
                weight, product = weights[k], weights[k] * ratios[k]
                for i in range(size):
                    value = mask[i]
                    used[i] |= value if good[i] else none
                    left_out[i] |= none if good[i] else value
                    count[i] += good[i]
                    lost[i] += (good[i] == 0) & ((value & bits) == 0)
                    total[i] += weight if good[i] else zero
                    flux[i] += product if good[i] else zero
            mean, error = image[j, start : start + size], out_variance[j, start:]
            result, number = out_mask[j, start:], out_count[j, start:]
            for i in range(size):
                sum_used += count[i]
                sum_lost += lost[i]
                number[i] = count[i]
                kept = used[i] | (clipped_bit if lost[i] > 0 else 0)
                result[i] = kept if count[i] > 0 else left_out[i] | nodata_bit
                wrong = factor * (flux[i] / total[i] - np.float32(1)) * mean[i]
                error[i] += wrong * wrong if (total[i] > 0) & (mean[i] > 0) else zero
    return sum_used, sum_lost
