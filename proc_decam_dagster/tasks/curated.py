"""What the curated calibrations (crosstalk, linearizer) hold, as the algorithms take it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from proc_decam_dagster.pixels.linearity import correction_table

AMPLIFIERS = "AB"


def crosstalk_matrix(table: Mapping[str, Any]) -> np.ndarray:
    """Return the leaks between a detector's own amplifiers, ``[victim, source]``, (2, 2, 5).

    Parameters
    ----------
    table : mapping
        The ``crosstalk`` dataset: ``detector`` and ``sources``, rows of victim amplifier, source CCD, source amplifier,
        coefficient and, since they are kept, the onset (ADU) and the polynomial of what grows out of proportion.
    """
    matrix = np.zeros((2, 2, 5))
    matrix[..., 1] = np.inf
    for victim, source, source_amplifier, *terms in table["sources"]:
        if int(source) == int(table["detector"]):
            matrix[AMPLIFIERS.index(victim), AMPLIFIERS.index(source_amplifier), : len(terms)] = terms
    return matrix


def crosstalk_of_others(table: Mapping[str, Any]) -> list[tuple[str, int, str, tuple[float, ...]]]:
    """Return the leaks of other detectors as `crosstalk.remove_leaks` takes them."""
    proportional = (0.0, np.inf, 0.0, 0.0, 0.0)
    return [
        (victim, int(source), source_amplifier, (*map(float, terms), *proportional[len(terms) :]))
        for victim, source, source_amplifier, *terms in table["sources"]
        if int(source) != int(table["detector"])
    ]


def linearity_tables(linearizer: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Return the correction of each amplifier; of none without a linearizer.

    Parameters
    ----------
    linearizer : mapping, optional
        The ``linearizer`` dataset: ``detector`` and ``amplifiers``, by name ``adu`` (above bias) and ``correction``.
    """
    amplifiers = linearizer["amplifiers"] if linearizer else {}
    return {name: correction_table(each["adu"], each["correction"]) for name, each in amplifiers.items()}
