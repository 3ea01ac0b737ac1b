"""The launch forms of the processing assets: what a person may choose, and what is refused.

Where there are few possibilities, a field offers them: a launch dialog refuses what is none of them. Free text
(``where``, detectors, nights) is read when the run starts: Dagster knows no pattern that it could check before. What is
wrong with it is a `SurveyError` then, which a page shows in a line; an error of validation would come with a traceback.
"""

import re
from enum import StrEnum
from typing import Literal

import dagster as dg
from pydantic import Field, create_model

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.calibration_policy import CalibrationPolicy
from proc_decam_dagster.survey.proc_types import MIN_FRAMES, PROC_TYPES

_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")


class Processing(dg.Config):
    """How a chain is processed."""

    detectors: str = Field(default="", description="Only these CCDs, such as `1..4,31`; all if empty")
    where: str = Field(
        default="", description="Butler expression that narrows the data, such as `exposure > 845000`; all if empty"
    )
    steps: list[str] = Field(default=[], description="Steps to run; all if empty")
    # Choices rather than numbers, here and below: a launch dialog refuses what is none of them, but knows no bounds.
    tolerated_failures: Literal["none", "1%", "2%", "5%", "10%", "20%", "50%", "all"] = Field(
        default="none",
        description="How many of the quanta may fail before the asset fails; masters need them all, or `partial` too",
    )
    retry_failed: bool = Field(default=False, description="Whether to run again what failed for good before")
    backend: Literal["as configured", "local", "bps"] = Field(
        default="as configured", description="`local`: workers on this machine; `bps`: jobs of a batch system"
    )
    cores: Literal["as configured", "1", "2", "4", "8", "16", "32", "64", "128"] = Field(
        default="as configured", description="Local workers; as configured: `J`, or all that the machine has"
    )

    @property
    def query(self) -> str:
        """The Butler expression of ``where`` and ``detectors`` together."""
        terms = [t for t in (self.where.strip(), detectors_where(self.detectors)) if t]
        return terms[0] if len(terms) == 1 else " AND ".join(f"({t})" for t in terms)

    @property
    def selection(self) -> str:
        """What part of the data is processed, in words; empty for all of it."""
        chosen = {"detectors": self.detectors.strip(), "where": self.where.strip(), "steps": ", ".join(self.steps)}
        return "; ".join(f"{name} {value}" for name, value in chosen.items() if value)

    @property
    def tolerated_fraction(self) -> float:
        """The fraction of quanta that may fail."""
        text = {"none": "0", "all": "100"}.get(self.tolerated_failures, self.tolerated_failures)
        return float(text.rstrip("%")) / 100


class Calibration(Processing):
    """How a night's master calibrations are made."""

    partial: bool = Field(
        default=False, description="Certify the masters that succeeded even if others of the night did not"
    )


class Calibrated(Calibration):
    """How a chain is processed that takes the night's master calibrations."""

    partial: bool = Field(
        default=False, description="Process the raws whose masters are there, and certify what succeeded"
    )
    calibrations: Literal["own", "nearest"] = Field(
        default="own",
        description="Masters that the night lacks: `own` stops and names the nearest nights that have them, `nearest` "
        "takes theirs",
    )
    calibrations_within: Literal["1 day", "2 days", "3 days", "7 days", "14 days", "30 days"] = Field(
        default="7 days", description="How far away the nearest night may be"
    )
    calibrations_from: str = Field(
        default="",
        description="Night whose masters are taken for those that are missing, such as `20190402`, or "
        "`bias=20190402,flat=20190405`; none if empty",
    )

    def policy(self) -> CalibrationPolicy:
        """Return where missing masters come from."""
        nights = self.calibrations_from.replace(",", " ").split()
        return CalibrationPolicy.of(nights, self.calibrations, int(self.calibrations_within.split()[0]))


class Differencing(Processing):
    """How difference images are made."""

    science: Literal["clean", "injected", "both"] = Field(
        default="clean", description="Science images: `clean`, `injected` with fakes, or `both`, one after the other"
    )


def form_of(proc_type: str, base: type[Processing]) -> type[Processing]:
    """Return a proc type's form: the steps that it offers are those of its pipeline, and masters need frames."""
    steps = PROC_TYPES[proc_type].steps
    # Not a `Literal`: Dagster takes none within a list. Its name is what a launch dialog says of a step that is none.
    choices = StrEnum(f"Step[{', '.join(steps)}]", {step: step for step in steps})
    chosen = Field(default=[], description=f"Some of {', '.join(steps)}; all if empty")
    fields = {"steps": (list[choices], chosen)}
    if PROC_TYPES[proc_type].certifies:
        needed = Field(default=str(MIN_FRAMES), description="Frames that a master must be made from to be certified")
        fields["min_frames"] = (Literal["1", "2", "3", "4", "5", "6", "8", "10", "15", "20"], needed)
    return create_model(f"{base.__name__}_{proc_type}", __base__=base, **fields)


def detectors_where(text: str) -> str:
    """Return the Butler expression of detectors written ``1..4,31``; empty for none.

    Raises
    ------
    SurveyError
        If a part is no number or range of detectors.
    """
    from proc_decam_dagster.camera.detectors import DETECTORS

    parts = [p for p in re.split(r"[,\s]+", text.strip()) if p]
    for part in parts:
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if first > last or not {first, last} <= DETECTORS.keys():
            known = f"{min(DETECTORS)} to {max(DETECTORS)}"
            raise SurveyError(f"{part!r} names no CCD", f"numbers and ranges of {known}: 1..4,31")
    return f"detector IN ({', '.join(parts)})" if parts else ""
