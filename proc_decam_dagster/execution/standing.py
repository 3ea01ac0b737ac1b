"""How a step stands when it has ended, in few words: what `proc-decam status` is made from."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proc_decam_dagster.execution.attempts import QuantumName

UNITS = ("detector", "patch", "tract", "visit")
"""What is counted: the first of these dimensions that a quantum has."""


def unit_of(data_id: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what a quantum is a part of, ``("detector", "31")`` for instance; `None` if of nothing that is counted."""
    for dimension in UNITS:
        if dimension in data_id:
            more = f"{data_id['tract']}," if dimension == "patch" else ""
            return dimension, f"{more}{data_id[dimension]}"
    return None


def standing_of(state: "Mapping[QuantumName, str]", runs: list[str]) -> dict[str, Any]:
    """Return a step's standing as JSON-friendly values.

    Parameters
    ----------
    state : `~collections.abc.Mapping` [`QuantumName`, `str`]
        ``succeeded``, ``skipped``, ``failed`` or ``blocked``, by quantum.
    runs : `list` [`str`]
        RUNs that the step has written.

    Returns
    -------
    standing : `dict`
        ``runs``: RUNs written. ``counts``: number of quanta by state. ``good``, ``bad``: by dimension, the detectors
        (or patches, …) of which all quanta succeeded, and the others.
    """
    units: dict[tuple[str, str], bool] = {}
    for (_, data_id), how in state.items():
        unit = unit_of(json.loads(data_id))
        if unit is not None:
            units[unit] = units.get(unit, True) and how in ("succeeded", "skipped")
    split: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for (dimension, name), good in sorted(units.items()):
        split[good].setdefault(dimension, []).append(name)
    tally = Counter(state.values())
    counts = {word: tally[word] for word in ("succeeded", "skipped", "failed", "blocked")}
    return {"runs": runs, "counts": counts, "good": split[True], "bad": split[False]}
