"""Non-linearity: a signal made proportional to the light, by a table of corrections."""

import numpy as np

from proc_decam_dagster.pixels.jit import jit

STEP = 8
"""ADU between the entries of a table: what a published correction bends within them is under 0.1 ADU."""

NONE = np.zeros(2, np.float32)
"""The table of an amplifier that needs none."""


def correction_table(adu: np.ndarray, correction: np.ndarray, highest: int = 65536) -> np.ndarray:
    """Return a correction as `linearise` takes it.

    Parameters
    ----------
    adu : array-like
        Signals above bias, rising.
    correction : array-like
        What is to be added to them, ADU; the last one holds beyond.
    highest : `int`, optional
        Highest signal, ADU.

    Returns
    -------
    table : `numpy.ndarray`, float32
        Corrections at every `STEP` ADU from 0.

    Raises
    ------
    ValueError
        If the corrected signal would not rise with the measured one.
    """
    adu, correction = np.asarray(adu, float), np.asarray(correction, float)
    if (np.diff(adu) <= 0).any() or (np.diff(adu + correction) <= 0).any():
        raise ValueError("a linearity correction must be given for rising signals, and leave them rising")
    return np.interp(np.arange(0, highest + 1, STEP), adu, correction).astype(np.float32)


@jit
def linearise(signal, n, table, entry, fraction):  # pragma: no cover - compiled
    """Correct the first ``n`` signals (ADU above bias), in place; NaN and negative ones stay.

    ``entry`` (uint32) and ``fraction`` (float32) are room for ``n`` values: where in the table is worked out for many
    at once, which the look-up itself cannot be.
    """
    inverse = np.float32(1 / STEP)
    last = np.float32(len(table) - 1.001)
    zero = np.float32(0)
    for i in range(n):
        position = signal[i] * inverse
        position = position if position > zero else zero
        position = position if position < last else last
        k = np.int32(position)
        entry[i] = np.uint32(k)
        fraction[i] = position - np.float32(k)
    for i in range(n):
        k = entry[i]
        low = table[k]
        signal[i] += low + fraction[i] * (table[k + np.uint32(1)] - low)
