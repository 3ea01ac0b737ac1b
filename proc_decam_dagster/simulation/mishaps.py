"""What goes wrong at a telescope, on demand: each mishap spoils one exposure, or one detector of it.

A plan names them as ``EXPNUM:CCD:KIND``, CCD 0 for all: ``832013:35:satellite``. None happens by itself.
"""

from dataclasses import replace

import numpy as np

from proc_decam_dagster.camera.detectors import detector as known_detector
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.simulation.plan import Exposure, SurveyPlan

CLOUDS_MAG = 2.0
TRAIL_PIXELS = 25
KINDS = ("clouds", "no stars", "trailed", "saturated", "satellite", "dead A", "dead B", "all zero")


def of(plan: SurveyPlan, exposure: Exposure, detector: int) -> set[str]:
    """Return the kinds of mishap that befall a detector of an exposure.

    Raises
    ------
    SurveyError
        Raised for a mishap that is not one of `KINDS`.
    """
    kinds = set()
    for text in plan.mishaps:
        expnum, ccd, kind = text.split(":", 2)
        if kind not in KINDS:
            raise SurveyError(f"mishap {text!r}", f"EXPNUM:CCD:KIND with one of {', '.join(KINDS)}")
        if int(expnum) == exposure.expnum and int(ccd) in (0, detector):
            kinds.add(kind)
    return kinds


def clouded(exposure: Exposure, kinds: set[str]) -> Exposure:
    """Return the exposure as it is taken through clouds, if there are any."""
    return replace(exposure, zero_point=exposure.zero_point - CLOUDS_MAG) if "clouds" in kinds else exposure


def spoil_light(charge: np.ndarray, kinds: set[str], sky: float, well: float, rng) -> None:
    """Change the electrons that are expected of the light, in place."""
    if "no stars" in kinds:
        charge[...] = np.minimum(charge, np.median(charge[::16, ::16]))
    if "trailed" in kinds:
        steps = np.arange(TRAIL_PIXELS)
        charge[...] = np.mean([np.roll(charge, (k // 2, k), (0, 1)) for k in steps], axis=0, dtype=np.float32)
    if "satellite" in kinds:
        ny, nx = charge.shape
        angle, x0, y0 = rng.uniform(0, np.pi), rng.uniform(0.3, 0.7) * nx, rng.uniform(0.3, 0.7) * ny
        distance = (np.arange(nx) - x0) * -np.sin(angle) + (np.arange(ny)[:, None] - y0) * np.cos(angle)
        charge += (3 * np.sqrt(sky) * np.exp(-0.5 * (distance / 2.5) ** 2)).astype(np.float32)
    if "saturated" in kinds:
        charge += np.float32(2 * well)


def spoil_raw(raw: np.ndarray, detector: int, kinds: set[str]) -> None:
    """Change the numbers that are read out, in place."""
    for amplifier in known_detector(detector).amplifiers:
        if f"dead {amplifier.name}" in kinds:
            # The converter still answers, with its offset and less than its noise; light does not reach it.
            half = slice(0, raw.shape[1] // 2) if amplifier.bbox.x0 == 0 else slice(raw.shape[1] // 2, None)
            raw[:, half] = 1500
    if "all zero" in kinds:
        raw[...] = 0
