"""Health of a raw frame: levels, noise and saturation of its amplifiers, and which frames may enter a master."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proc_decam_dagster.pixels.overscan import Overscan
from proc_decam_dagster.pixels.readout import Readout

NOISE_RANGE = (0.3, 4.0)
"""Measured over nominal read noise of an amplifier that works."""

DARK_RATIO = 0.02
"""Signal over that of the other amplifier below which an amplifier is dead, where there is light."""

SATURATED = 0.5
"""Fraction of saturated pixels from which an amplifier shows nothing."""

LIGHT = 200.0
"""Signal (ADU) that counts as light."""


def raw_statistics(
    raw: np.ndarray, readouts: Sequence[Readout], overscans: Sequence[Overscan], step: int = 8
) -> dict[str, dict[str, Any]]:
    """Return the statistics of every amplifier of a raw frame.

    Parameters
    ----------
    raw : `numpy.ndarray`, (ny_raw, nx_raw), integer
    readouts, overscans : sequence
        Amplifiers and their overscans.
    step : `int`, optional
        Every how manieth row and column is looked at.

    Returns
    -------
    statistics : `dict` [`str`, `dict`]
        By amplifier: ``overscan`` (median level, ADU), ``drift`` (standard deviation over rows, ADU), ``noise`` (ADU),
        ``noise_electrons``, ``jitter`` (of rows, ADU), ``signal`` (median above overscan, ADU), ``saturated_fraction``,
        ``dead`` (no signal chain: noise far from nominal, constant, saturated, or dark beside a lit amplifier) and
        ``cause``, what of these it is.
    """
    statistics: dict[str, dict[str, Any]] = {}
    for readout, overscan in zip(readouts, overscans):
        x0, y0, x1, y1 = readout.data
        pixels = raw[y0:y1:step, x0:x1:step]
        signal = pixels - overscan.levels[::step, None]
        saturated = float((pixels >= readout.saturation).mean())
        ratio = overscan.noise * readout.gain / readout.read_noise
        cause = ""
        if pixels.min() == pixels.max():
            cause = f"every pixel is {int(pixels.min())} ADU"
        elif saturated > SATURATED:
            cause = f"{saturated:.0%} of the pixels are saturated"
        elif not NOISE_RANGE[0] < ratio < NOISE_RANGE[1]:
            cause = f"noise is {ratio:.2f} times the nominal read noise"
        statistics[readout.name] = {
            "overscan": float(np.median(overscan.levels)),
            "drift": float(np.std(overscan.levels)),
            "noise": overscan.noise,
            "noise_electrons": overscan.noise * readout.gain,
            "jitter": overscan.jitter,
            "signal": float(np.median(signal)),
            "saturated_fraction": saturated,
            "dead": bool(cause),
            "cause": cause,
        }
    brightest = max(amplifier["signal"] for amplifier in statistics.values())
    for amplifier in statistics.values():
        if not amplifier["dead"] and brightest > LIGHT and amplifier["signal"] < DARK_RATIO * brightest:
            amplifier["dead"] = True
            amplifier["cause"] = f"signal is {amplifier['signal']:.0f} ADU beside {brightest:.0f} of the other"
    return statistics


def dead_amplifiers(statistics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the amplifiers that are dead."""
    return [name for name, amplifier in statistics.items() if amplifier["dead"]]


def select_frames(
    frames: Mapping[int, Mapping[str, Mapping[str, Any]]], *, zeros: bool
) -> tuple[list[int], dict[int, str]]:
    """Choose the frames of one detector that may enter a master.

    Parameters
    ----------
    frames : mapping [`int`, mapping]
        Per exposure, its `raw_statistics`.
    zeros : `bool`
        Whether they are zeros, which hold no light.

    Returns
    -------
    good : `list` [`int`]
        Exposures to use, sorted.
    rejected : `dict` [`int`, `str`]
        Exposures left out, with the reason.

    Notes
    -----
    An amplifier that is dead in most frames is a property of the detector and rejects none of them.
    """
    rejected: dict[int, str] = {}
    names = sorted({name for frame in frames.values() for name in frame})
    for name in names:
        rows = {exposure: frame[name] for exposure, frame in frames.items()}
        always_dead = np.mean([row["dead"] for row in rows.values()]) > 0.5
        noise = float(np.median([row["noise"] for row in rows.values()]))
        signal = float(np.median([row["signal"] for row in rows.values()]))
        for exposure, row in rows.items():
            if always_dead:
                continue
            if row["dead"]:
                reason = f"amplifier {name} is dead" + (f": {row['cause']}" if row.get("cause") else "")
            elif row["noise"] > 1.5 * noise + 0.2:
                reason = f"amplifier {name} has noise {row['noise']:.2f} ADU, the others {noise:.2f}"
            elif row["saturated_fraction"] > 0.01:
                reason = f"amplifier {name} is saturated in {row['saturated_fraction']:.1%} of its pixels"
            elif zeros and abs(row["signal"] - signal) > 10:
                reason = f"amplifier {name} is {row['signal'] - signal:+.1f} ADU off the others: light, or a drift"
            else:
                continue
            rejected.setdefault(exposure, reason)
    return sorted(set(frames) - set(rejected)), rejected
