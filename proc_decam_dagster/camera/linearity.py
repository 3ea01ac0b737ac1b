"""Non-linearity of the amplifiers: what is added to a measured signal so that it is proportional to the light."""

from functools import cache
from typing import NamedTuple

import numpy as np

from proc_decam_dagster.camera._tables import read


class Correction(NamedTuple):
    """One amplifier's correction: ADU above bias as measured, and what is added to them; linear between."""

    adu: np.ndarray
    correction: np.ndarray


@cache
def _table() -> dict[int, dict[str, Correction]]:
    table: dict[int, dict[str, Correction]] = {}
    for row in read("linearity.csv"):
        detector, amplifier = int(row.pop("ccd")), row.pop("amplifier")
        known = [(float(adu), float(value)) for adu, value in row.items() if value]
        adu, correction = np.array(known).T
        table.setdefault(detector, {})[amplifier] = Correction(adu, correction)
    return table


def linearity(detector: int) -> dict[str, Correction]:
    """Return the correction of each amplifier of a detector by name; empty where none was measured (CCD 61)."""
    return dict(_table().get(detector, {}))
