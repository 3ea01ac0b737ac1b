"""Crosstalk: what an amplifier's signal leaks into the pixels of others that are read at the same time.

Within a CCD it is taken off row by row as a frame is corrected; between CCDs it is ten times weaker, so that only
bright pixels matter: those of every frame are listed once, and a victim takes their leaks off.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.isr import Master
from proc_decam_dagster.pixels.mask import CROSSTALK
from proc_decam_dagster.pixels.overscan import Overscan
from proc_decam_dagster.pixels.readout import Readout

BRIGHT = 2500.0
"""Signal (ADU) from which a pixel's leak into another CCD is taken off: at the median coefficient, 0.4 electrons."""


@dataclass(frozen=True)
class BrightPixels:
    """The bright pixels of an amplifier, in the order of its readout.

    Attributes
    ----------
    row, column : `numpy.ndarray`, (n,), int16
        Distance from the corner that is read first, pixels.
    signal : `numpy.ndarray`, (n,), float32
        ADU above bias.
    saturated : `numpy.ndarray`, (n,), bool
    """

    row: np.ndarray
    column: np.ndarray
    signal: np.ndarray
    saturated: np.ndarray


def bright_pixels(raw: np.ndarray, readout: Readout, overscan: Overscan, threshold: float = BRIGHT) -> BrightPixels:
    """List an amplifier's pixels above a threshold (ADU above bias) of a raw array."""
    x0, y0, x1, y1 = readout.data
    pixels = raw[y0:y1, x0:x1]
    above = pixels > threshold + overscan.levels[:, None]
    y, x = np.nonzero(above)
    counts = pixels[y, x]
    return BrightPixels(
        (y1 - y0 - 1 - y if readout.flip_y else y).astype(np.int16),
        (x1 - x0 - 1 - x if readout.flip_x else x).astype(np.int16),
        (counts - overscan.levels[y]).astype(np.float32),
        counts >= readout.saturation,
    )


def leak(signal: np.ndarray, coefficient: float, onset: float, p1: float, p2: float, p3: float) -> np.ndarray:
    """Return what a signal adds to its victim: proportional to it up to the onset, then a cubic of the excess."""
    excess = np.maximum(signal - np.float32(onset), 0)
    return coefficient * (signal - excess) + excess * (p1 + excess * (p2 + excess * p3))


def remove_leaks(
    image: MaskedImage,
    readouts: Sequence[Readout],
    leaks: Iterable[tuple[str, int, str, Sequence[float]]],
    sources: Mapping[tuple[int, str], BrightPixels],
    flat: Master | None = None,
) -> int:
    """Take the leaks of other CCDs off a corrected image, in place; flag `CROSSTALK` where the source is saturated.

    Parameters
    ----------
    image : `MaskedImage`
        Electrons.
    readouts : sequence of `Readout`
        The victim's amplifiers.
    leaks : iterable of `tuple`
        Victim amplifier, source CCD, source amplifier, and the arguments of `leak`.
    sources : mapping [(CCD, amplifier), `BrightPixels`]
        A source that is not there is left out.
    flat : `Master`, optional
        What the image was divided by.

    Returns
    -------
    removed : `int`
        Pixels changed.
    """
    victims = {readout.name: readout for readout in readouts}
    removed = 0
    for victim, detector, amplifier, terms in leaks:
        bright = sources.get((detector, amplifier))
        if bright is None or not len(bright.signal):
            continue
        readout = victims[victim]
        x0, y0, x1, y1 = readout.box
        row, column = bright.row.astype(np.int32), bright.column.astype(np.int32)
        y = y1 - 1 - row if readout.flip_y else y0 + row
        x = x1 - 1 - column if readout.flip_x else x0 + column
        electrons = leak(bright.signal, *terms) * readout.gain
        if flat is not None:
            response = flat.image[y, x]
            electrons = np.where(response > 0, electrons / np.where(response > 0, response, 1), electrons)
        image.image[y, x] -= electrons.astype(np.float32)
        image.mask[y[bright.saturated], x[bright.saturated]] |= CROSSTALK
        removed += len(row)
    return removed
