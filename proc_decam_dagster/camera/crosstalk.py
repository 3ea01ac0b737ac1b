"""Crosstalk between amplifiers: the fraction of a source amplifier's signal that appears in its victim."""

from functools import cache
from typing import NamedTuple

import numpy as np

from proc_decam_dagster.camera._tables import read


class Coefficient(NamedTuple):
    """One row of the crosstalk table: what a source amplifier adds to a victim.

    Signal of the source times ``coefficient`` is added up to ``onset`` (ADU above bias); from there on it grows with
    the excess over the onset as the polynomial ``p1 e + p2 e² + p3 e³``. The published table does not say what its
    polynomial is in: only in the excess do both parts meet.
    """

    victim_amplifier: str
    source: int
    source_amplifier: str
    coefficient: float
    onset: float = 1e10
    p1: float = 0.0
    p2: float = 0.0
    p3: float = 0.0

    def leak(self, signal: np.ndarray) -> np.ndarray:
        """Return what a signal of the source (ADU above bias) adds to the victim, ADU."""
        excess = np.maximum(signal - self.onset, 0)
        return self.coefficient * np.minimum(signal, self.onset) + excess * (
            self.p1 + excess * (self.p2 + excess * self.p3)
        )


@cache
def _table() -> dict[int, list[Coefficient]]:
    table: dict[int, list[Coefficient]] = {}
    for row in read("crosstalk.csv"):
        table.setdefault(int(row["victim"]), []).append(
            Coefficient(
                row["victim_amplifier"],
                int(row["source"]),
                row["source_amplifier"],
                *(float(row[name]) for name in ("coefficient", "onset", "p1", "p2", "p3")),
            )  # fmt: skip
        )
    return table


def sources(detector: int) -> list[Coefficient]:
    """Return all amplifiers that leak into a detector, its own included; empty where none was measured."""
    return list(_table().get(detector, ()))


def intra_ccd(detector: int) -> np.ndarray:
    """Return the crosstalk within a detector, (2, 2): row the victim, column the source, A before B."""
    matrix = np.zeros((2, 2))
    for row in sources(detector):
        if row.source == detector:
            matrix["AB".index(row.victim_amplifier), "AB".index(row.source_amplifier)] = row.coefficient
    return matrix


def source_detectors(detectors) -> set[int]:
    """Return the other detectors whose pixels are needed to correct these."""
    return {row.source for each in detectors for row in sources(each)} - set(detectors)
