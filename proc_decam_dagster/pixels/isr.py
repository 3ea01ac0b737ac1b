"""Instrument signature removal: from a raw array to electrons with variance and mask, in one pass."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.linearity import NONE, linearise
from proc_decam_dagster.pixels.mask import BAD, CROSSTALK, SAT, SUSPECT
from proc_decam_dagster.pixels.overscan import Overscan, measure_overscan
from proc_decam_dagster.pixels.readout import Readout

SUSPECT_LEVEL = 0.9
"""Fraction of the saturation level from which the response is no longer trusted to be linear."""


@dataclass(frozen=True)
class Master:
    """A master calibration as ISR uses it.

    Attributes
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Bias in ADU, or flat with unit mean over the focal plane.
    variance : `float`
        Its typical variance: of a bias in ADU², of a flat relative to its square.
    """

    image: np.ndarray
    variance: float

    @classmethod
    def bias(cls, bias: MaskedImage) -> "Master":
        """Return the master of a bias image."""
        return cls(bias.image, float(np.nanmedian(bias.variance[::16, ::16])))

    @classmethod
    def flat(cls, flat: MaskedImage) -> "Master":
        """Return the master of a flat image."""
        image, variance = flat.image[::16, ::16], flat.variance[::16, ::16]
        good = image > 0
        return cls(flat.image, float(np.nanmedian(variance[good] / image[good] ** 2)) if good.any() else 0.0)


@jit
def source_row(raw, y, x0, n, mirrored, level, out):  # pragma: no cover - compiled
    """Signal of the source amplifier, in the victim's column order: pixels that are read at the same time."""
    if mirrored:
        for i in range(n):
            out[i] = np.float32(raw[y, x0 + n - 1 - i]) - level
    else:
        for i in range(n):
            out[i] = np.float32(raw[y, x0 + i]) - level


@jit
def _correct(
    raw, raw_y0, raw_x0, n, levels, source_x0, source_levels, mirrored, leak, source_saturation, table,
    bias, has_bias, flat, has_flat, x0, gain, floor, flat_variance, saturation, suspect, image, variance, mask,
    saturated,
):  # pragma: no cover - compiled  # fmt: skip
    """Correct one amplifier; mark the rows with saturated pixels, and return whether all are finite."""
    signal = np.empty(n, np.float32)
    source = np.zeros(n, np.float32)
    offset = np.zeros(n, np.float32)
    response = np.ones(n, np.float32)
    entry = np.empty(n, np.uint32)
    fraction = np.empty(n, np.float32)
    zero = np.float32(0)
    one = np.float32(1)
    coefficient, onset = leak[0], leak[1]
    linear = len(table) > 2
    finite = True
    for y in range(image.shape[0]):
        counts, others = raw[raw_y0 + y, raw_x0 : raw_x0 + n], raw[raw_y0 + y, source_x0 : source_x0 + n]
        level, source_level = levels[y], source_levels[y]
        highest, peak = np.int32(0), np.int32(0)  # of integers: a highest of floats takes one at a time
        for i in range(n):
            highest = max(highest, np.int32(counts[i]))
            peak = max(peak, np.int32(others[i]))
        source_highest = np.float32(peak) - source_level
        if has_bias:
            offset = bias[y, x0 : x0 + n]
        if coefficient == 0:
            for i in range(n):
                signal[i] = np.float32(counts[i]) - level - offset[i]
        elif mirrored:
            for i in range(n):
                leaked = coefficient * (np.float32(others[n - 1 - i]) - source_level)
                signal[i] = np.float32(counts[i]) - level - leaked - offset[i]
        else:
            for i in range(n):
                leaked = coefficient * (np.float32(others[i]) - source_level)
                signal[i] = np.float32(counts[i]) - level - leaked - offset[i]
        leaks = coefficient != 0 and source_highest > onset
        marks = coefficient != 0 and source_highest >= source_saturation - source_level
        if leaks or marks:  # few rows need the source by itself
            source_row(raw, raw_y0 + y, source_x0, n, mirrored, source_level, source)
        if leaks:
            for i in range(n):
                excess = source[i] - onset
                if excess > zero:
                    signal[i] -= excess * (leak[2] + excess * (leak[3] + excess * leak[4]) - coefficient)
        if linear:
            linearise(signal, n, table, entry, fraction)
        pixels = image[y, x0 : x0 + n]
        variances = variance[y, x0 : x0 + n]
        bits = mask[y, x0 : x0 + n]
        if has_flat:
            response = flat[y, x0 : x0 + n]
            for i in range(n):
                electrons = signal[i] * gain
                good = response[i] > zero
                scale = one / response[i] if good else one
                value = electrons * scale
                pixels[i] = value
                variances[i] = (max(electrons, zero) + floor) * scale * scale + flat_variance * value * value
                bits[i] = 0 if good else BAD
        else:
            for i in range(n):
                electrons = signal[i] * gain
                pixels[i] = electrons
                variances[i] = max(electrons, zero) + floor
                bits[i] = 0
        check = zero
        for i in range(n):
            check += pixels[i] * zero  # NaN where one is not finite
        finite = finite and check == zero
        if highest >= suspect:
            saturated[y] |= highest >= saturation
            for i in range(n):
                if counts[i] >= saturation:
                    bits[i] |= SAT
                elif counts[i] >= suspect:
                    bits[i] |= SUSPECT
        if marks:
            for i in range(n):
                if source[i] >= source_saturation - source_level:
                    bits[i] |= CROSSTALK
    return finite


@jit
def _grow(mask, bit, rows):  # pragma: no cover - compiled
    """Set a bit in the eight neighbours of every pixel that has it; ``rows`` says in which rows these are."""
    ny, nx = mask.shape
    mark = np.int32(1 << 30)
    for y in range(ny):
        if not rows[y]:
            continue
        for x in range(nx):
            if mask[y, x] & bit == 0 or mask[y, x] & mark:
                continue
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if mask[v, u] & bit == 0:
                        mask[v, u] |= bit | mark
    for y in range(ny):
        if rows[max(y - 1, 0)] or rows[y] or rows[min(y + 1, ny - 1)]:
            for x in range(nx):
                mask[y, x] &= ~mark


def leak_terms(crosstalk: np.ndarray | None, victim: int, source: int) -> np.ndarray:
    """Return coefficient, onset and polynomial of a leak, (5,) float32; without onset where only a coefficient is."""
    terms = np.array([0, np.inf, 0, 0, 0], np.float32)
    if crosstalk is not None:
        given = np.atleast_1d(np.asarray(crosstalk, np.float32)[victim, source])
        terms[: len(given)] = given
    return terms


def measure_overscans(raw: np.ndarray, readouts: Sequence[Readout]) -> list[Overscan]:
    """Return the overscan of every amplifier of a raw array."""
    return [measure_overscan(raw, readout) for readout in readouts]


def correct(
    raw: np.ndarray,
    readouts: Sequence[Readout],
    *,
    bias: Master | None = None,
    flat: Master | None = None,
    crosstalk: np.ndarray | None = None,
    linearity: Mapping[str, np.ndarray] | None = None,
    overscans: Sequence[Overscan] | None = None,
    dead: Collection[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> MaskedImage:
    """Remove the instrument's signature from one CCD.

    Parameters
    ----------
    raw : `numpy.ndarray`, (ny_raw, nx_raw), integer
        Raw array, ADU.
    readouts : sequence of `Readout`
        The two amplifiers, A and B.
    bias, flat : `Master`, optional
        Master calibrations of the trimmed detector.
    crosstalk : `numpy.ndarray`, (2, 2) or (2, 2, 5), optional
        Coefficients ``[victim, source]`` in ADU per ADU, or all arguments of `crosstalk.leak`.
    linearity : mapping [`str`, `numpy.ndarray`], optional
        By amplifier, the `linearity.correction_table`.
    overscans : sequence of `Overscan`, optional
        As measured before; measured here otherwise.
    dead : collection of `str`, optional
        Names of amplifiers without signal: all their pixels become `BAD`.
    metadata : mapping, optional
        Metadata of the returned image.

    Returns
    -------
    image : `MaskedImage`
        Electrons; flat-fielded if a flat was given. The variance is Poisson's of each pixel's own charge, read noise
        and the masters' noise. Mask: `SAT` (raw level at or above saturation, and the eight neighbours), `SUSPECT`
        (near saturation), `BAD` (bias NaN; flat zero, negative or NaN), `CROSSTALK` (source amplifier saturated).
    """
    overscans = measure_overscans(raw, readouts) if overscans is None else overscans
    shape = (max(readout.box[3] for readout in readouts), max(readout.box[2] for readout in readouts))
    for name, master in (("bias", bias), ("flat", flat)):
        if master is not None and master.image.shape != shape:
            raise ValueError(f"{name} has shape {master.image.shape}, the trimmed detector has {shape}")
    image = MaskedImage(
        np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.int32),
        metadata=dict(metadata or {}),
    )  # fmt: skip
    nothing = np.zeros((1, 1), np.float32)
    saturated, all_finite = np.zeros(shape[0], np.bool_), True
    for victim, readout in enumerate(readouts):
        source = 1 - victim
        other = readouts[source]
        floor = readout.read_noise**2 + (bias.variance * readout.gain**2 if bias else 0.0)
        finite = _correct(
            raw, readout.data[1], readout.data[0], readout.data[2] - readout.data[0], overscans[victim].levels,
            other.data[0], overscans[source].levels, readout.flip_x != other.flip_x,
            leak_terms(crosstalk, victim, source), np.float32(other.saturation),
            (linearity or {}).get(readout.name, NONE),
            bias.image if bias else nothing, bias is not None, flat.image if flat else nothing, flat is not None,
            readout.box[0], np.float32(readout.gain), np.float32(floor), np.float32(flat.variance if flat else 0.0),
            np.float32(readout.saturation), np.float32(SUSPECT_LEVEL * readout.saturation),
            image.image, image.variance, image.mask, saturated,
        )  # fmt: skip
        all_finite = all_finite and finite
        if readout.name in dead:
            x0, y0, x1, y1 = readout.box
            image.mask[y0:y1, x0:x1] |= BAD
    if not all_finite:  # a bias with NaN
        lost = ~np.isfinite(image.image)
        image.image[lost], image.variance[lost] = 0, np.nanmedian(image.variance[::8, ::8])
        image.mask[lost] |= BAD
    if saturated.any():
        _grow(image.mask, np.int32(SAT), saturated)
    return image
