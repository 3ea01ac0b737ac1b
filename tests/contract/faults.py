"""Failures that tests ask generated tasks for, by files that every process finds."""

import builtins
import os
from pathlib import Path

FAULTS = "PROC_DECAM_STAND_IN_FAULTS"
"""Environment variable with the folder of the files; without it nothing fails."""


def fault_file(folder: Path, label: str, exposure: int, detector: int) -> Path:
    """Return the file that makes a quantum fail; it holds the exception's name, and ``once`` if it is to pass."""
    return folder / f"{label}-{exposure}-{detector}"


def fail_if_asked(label: str, data_id) -> None:
    """Raise what is asked for of a quantum."""
    folder = os.environ.get(FAULTS)
    if not folder or "detector" not in data_id:
        return
    number = data_id.get("visit", data_id.get("exposure", 0))
    path = fault_file(Path(folder), label, number, data_id["detector"])
    if path.exists():
        name, _, once = path.read_text().partition(" ")
        if once:
            path.unlink()
        raise getattr(builtins, name)("asked for by a test")
