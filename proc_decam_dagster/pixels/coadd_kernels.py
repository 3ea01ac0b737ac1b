"""Compiled kernels of the coadd: the statistics of a stack of warped rows, pixel by pixel."""

import numpy as np

from proc_decam_dagster.pixels.jit import jit


@jit
def median_of_stack(images, usable, out):
    """Write the median over the usable inputs of every pixel; NaN where there is none.

    Parameters
    ----------
    images : `numpy.ndarray`, (n, ny, nx), float32
    usable : `numpy.ndarray`, (n, ny, nx), bool
    out : `numpy.ndarray`, (ny, nx), float32
    """
    n, ny, nx = images.shape
    ordered = np.empty(n, np.float32)
    for j in range(ny):
        for i in range(nx):
            count = 0
            for k in range(n):
                if usable[k, j, i]:
                    value = images[k, j, i]
                    place = count
                    while place > 0 and ordered[place - 1] > value:
                        ordered[place] = ordered[place - 1]
                        place -= 1
                    ordered[place] = value
                    count += 1
            if count == 0:
                out[j, i] = np.nan
            else:
                out[j, i] = np.float32(0.5) * (ordered[(count - 1) // 2] + ordered[count // 2])


@jit
def reject_outliers(images, variances, usable, reference, strength, tolerance, n_sigma, n_sigma_near):
    """Mark inputs that differ from the reference, by clearing them in ``usable``; return how many.

    An input is rejected where it differs by more than ``n_sigma`` times its noise plus ``tolerance`` times the local
    strength of the sky's signal; then its neighbours too, where they differ by ``n_sigma_near`` times the noise.
    Pixels with fewer than 3 inputs are left alone: nothing tells there which one is wrong.

    Parameters
    ----------
    images, variances : `numpy.ndarray`, (n, ny, nx), float32
    usable : `numpy.ndarray`, (n, ny, nx), bool
        Changed in place.
    reference, strength : `numpy.ndarray`, (ny, nx), float32
        Median, and its maximum over the neighbourhood.
    tolerance : `numpy.ndarray`, (n,), float32
        Largest difference of each input's PSF from the median's, in units of the neighbourhood's maximum.
    """
    n, ny, nx = images.shape
    counts = np.zeros((ny, nx), np.int16)
    for k in range(n):
        for j in range(ny):
            for i in range(nx):
                counts[j, i] += usable[k, j, i]
    rejected = 0
    hit = np.empty((ny, nx), np.uint8)
    for k in range(n):
        found = 0
        for j in range(ny):
            for i in range(nx):
                hit[j, i] = 0
                if not usable[k, j, i] or counts[j, i] < 3:
                    continue
                excess = abs(images[k, j, i] - reference[j, i]) - tolerance[k] * max(strength[j, i], np.float32(0))
                if excess <= 0:
                    continue
                noise = np.sqrt(variances[k, j, i])
                if excess > n_sigma * noise:
                    hit[j, i] = 2
                    found += 1
                elif excess > n_sigma_near * noise:
                    hit[j, i] = 1
        if found == 0:
            continue
        for j in range(ny):
            for i in range(nx):
                if hit[j, i] == 0:
                    continue
                drop = hit[j, i] == 2
                if not drop:
                    for b in range(max(j - 1, 0), min(j + 2, ny)):
                        for a in range(max(i - 1, 0), min(i + 2, nx)):
                            drop = drop or hit[b, a] == 2
                if drop:
                    usable[k, j, i] = False
                    rejected += 1
    return rejected


@jit
def weighted_mean(images, variances, usable, weights, out, out_variance, out_count):
    """Write the weighted mean over the usable inputs, its variance and the number of inputs.

    Parameters
    ----------
    weights : `numpy.ndarray`, (n,), float32
        Weight of each input, the same for all its pixels.
    """
    n, ny, nx = images.shape
    total = np.empty(nx, np.float32)
    spread = np.empty(nx, np.float32)
    weight = np.empty(nx, np.float32)
    for j in range(ny):
        for i in range(nx):
            total[i] = 0
            spread[i] = 0
            weight[i] = 0
            out_count[j, i] = 0
        for k in range(n):
            w = weights[k]
            for i in range(nx):
                if usable[k, j, i]:
                    total[i] += w * images[k, j, i]
                    spread[i] += w * w * variances[k, j, i]
                    weight[i] += w
                    out_count[j, i] += 1
        for i in range(nx):
            if weight[i] > 0:
                out[j, i] = total[i] / weight[i]
                out_variance[j, i] = spread[i] / (weight[i] * weight[i])
            else:
                out[j, i] = np.nan
                out_variance[j, i] = np.inf


@jit
def median_variance(variances, usable, out_variance, out_count):
    """Write the variance of the median of Gaussian inputs, and their number.

    It is that of the unweighted mean times π/2 for many inputs; for few, the median is nearer to the mean.
    """
    n, ny, nx = variances.shape
    for j in range(ny):
        for i in range(nx):
            total = np.float32(0)
            count = 0
            for k in range(n):
                if usable[k, j, i]:
                    total += variances[k, j, i]
                    count += 1
            out_count[j, i] = count
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
def minimum(images, variances, usable, out, out_variance, out_count):
    """Write the smallest usable input, that input's variance, and the number of inputs."""
    n, ny, nx = images.shape
    for j in range(ny):
        for i in range(nx):
            best = np.float32(np.inf)
            spread = np.float32(np.inf)
            count = 0
            for k in range(n):
                if usable[k, j, i]:
                    count += 1
                    if images[k, j, i] < best:
                        best = images[k, j, i]
                        spread = variances[k, j, i]
            out_count[j, i] = count
            out[j, i] = best if count else np.nan
            out_variance[j, i] = spread


@jit
def combine_masks(masks, usable, unusable_bits, clipped_bit, nodata_bit, out):
    """Write the mask: the bits of the inputs used; those of the ones left out only where none was used.

    Parameters
    ----------
    masks : `numpy.ndarray`, (n, ny, nx), int16
    usable : `numpy.ndarray`, (n, ny, nx), bool
        Inputs that went into each pixel.
    unusable_bits, clipped_bit, nodata_bit : `int`
        An input without an unusable bit that was not used has been clipped.
    """
    n, ny, nx = masks.shape
    for j in range(ny):
        for i in range(nx):
            used = 0
            left_out = 0
            count = 0
            clipped = False
            for k in range(n):
                bits = masks[k, j, i]
                if usable[k, j, i]:
                    used |= bits
                    count += 1
                else:
                    left_out |= bits
                    clipped = clipped or (bits & unusable_bits) == 0
            if count == 0:
                out[j, i] = left_out | nodata_bit
            else:
                out[j, i] = used | clipped_bit if clipped else used


@jit
def add_psf_error(usable, weights, ratios, image, factor, out_variance):
    """Add to the variance what the inputs that are missing from a pixel make of its PSF.

    Parameters
    ----------
    usable : `numpy.ndarray`, (n, ny, nx), bool
        Inputs that went into each pixel.
    weights : `numpy.ndarray`, (n,), float32
        Weight of each input.
    ratios : `numpy.ndarray`, (n,), float32
        Flux of a star of each input as the coadd's PSF measures it, relative to its true flux.
    image : `numpy.ndarray`, (ny, nx), float32
        The coadd: a star's pixels are wrong in proportion to their values.
    factor : `float`
        Errors of pixels per error of a star's flux.
    out_variance : `numpy.ndarray`, (ny, nx), float32
        Changed in place.
    """
    n, ny, nx = usable.shape
    for j in range(ny):
        for i in range(nx):
            total = np.float32(0)
            flux = np.float32(0)
            for k in range(n):
                if usable[k, j, i]:
                    total += weights[k]
                    flux += weights[k] * ratios[k]
            if total > 0 and image[j, i] > 0:
                error = factor * (flux / total - np.float32(1)) * image[j, i]
                out_variance[j, i] += error * error
