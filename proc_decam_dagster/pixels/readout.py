"""One amplifier's readout: where its pixels lie in the raw array; its gain, noise and saturation from the header."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Readout:
    """An amplifier of one exposure.

    Attributes
    ----------
    name : `str`
        ``A`` or ``B``.
    box : `tuple` [`int`]
        Its part of the trimmed image, half-open ``(x0, y0, x1, y1)``.
    data, overscan : `tuple` [`int`]
        Its imaging pixels and its overscan columns in the raw array, half-open.
    gain : `float`
        Electrons per ADU.
    read_noise : `float`
        Electrons.
    saturation : `float`
        Raw level (ADU) from which a pixel is saturated.
    flip_x, flip_y : `bool`
        Whether columns are read out from right to left, rows from the top: pixels of two amplifiers that are read at
        the same time, and so cross-talk, are equally far from their own readout corner.
    """

    name: str
    box: Box
    data: Box
    overscan: Box
    gain: float
    read_noise: float
    saturation: float
    flip_x: bool
    flip_y: bool = False


def _card(header: Mapping[str, Any], key: str, fallback: float) -> float:
    """Return a positive, finite number from a header, else the camera's own fact."""
    try:
        value = float(header.get(key, fallback))
    except (TypeError, ValueError):
        return float(fallback)
    return value if np.isfinite(value) and value > 0 else float(fallback)


def readouts(header: Mapping[str, Any], detector: Any) -> tuple[Readout, ...]:
    """Return the amplifiers of one exposure of a detector.

    Parameters
    ----------
    header : mapping
        Raw header of the CCD; ``GAINA``, ``RDNOISEA``, ``SATURATA``, … are those of the controller that night.
    detector : `proc_decam_dagster.camera.detectors.Detector`
        Sections, and gain, noise and saturation where the header has none.
    """
    return tuple(
        Readout(
            amplifier.name, tuple(amplifier.bbox), tuple(amplifier.raw_data), tuple(amplifier.raw_overscan),
            _card(header, f"GAIN{amplifier.name}", amplifier.gain),
            _card(header, f"RDNOISE{amplifier.name}", amplifier.read_noise),
            _card(header, f"SATURAT{amplifier.name}", amplifier.saturation),
            bool(amplifier.flip_x), bool(amplifier.flip_y),
        )
        for amplifier in detector.amplifiers
    )  # fmt: skip
