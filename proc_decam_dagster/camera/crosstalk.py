"""Crosstalk between amplifiers: the fraction of a source amplifier's signal that appears in its victim."""

from functools import cache
from typing import NamedTuple

import numpy as np

from proc_decam_dagster.camera._tables import read


class Coefficient(NamedTuple):
    """One row of the crosstalk table: signal of ``source`` times ``coefficient`` is added to the victim (ADU)."""

    victim_amplifier: str
    source: int
    source_amplifier: str
    coefficient: float


@cache
def _table() -> dict[int, list[Coefficient]]:
    table: dict[int, list[Coefficient]] = {}
    for row in read("crosstalk.csv"):
        table.setdefault(int(row["victim"]), []).append(
            Coefficient(row["victim_amplifier"], int(row["source"]), row["source_amplifier"], float(row["coefficient"]))
        )
    return table


def sources(detector: int) -> list[Coefficient]:
    """Return all amplifiers that leak into a detector, its own included; empty where none was measured."""
    return list(_table().get(detector, ()))


def intra_ccd(detector: int) -> np.ndarray:
    """Return the crosstalk within a detector, (2, 2): row the victim, column the source, A before B."""
    matrix = np.zeros((2, 2))
    for victim, source, source_amplifier, coefficient in sources(detector):
        if source == detector:
            matrix["AB".index(victim), "AB".index(source_amplifier)] = coefficient
    return matrix


def source_detectors(detectors) -> set[int]:
    """Return the other detectors whose pixels are needed to correct these."""
    return {row.source for each in detectors for row in sources(each)} - set(detectors)
