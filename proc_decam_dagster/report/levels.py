"""Levels of a night's master calibrations against those of the nights before it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from proc_decam_dagster.report.images import BINNING, binned, glance
from proc_decam_dagster.repository.queries import Master, night_frames, path_of
from proc_decam_dagster.repository.substitutes import candidates, certified_masters, own_masters
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

BLOCK = 64
"""Blocks of pixels (64 × 64) whose means are compared: noise of single pixels is not what changes."""


@dataclass(frozen=True)
class Change:
    """How a master differs from that of an earlier night.

    Attributes
    ----------
    detector, physical_filter
        Which master.
    level : `float`
        Median now: ADU of a bias, relative to 1 of a flat.
    shift : `float`
        Median change: ADU of a bias, a fraction of a flat.
    structure : `float`
        Scatter of the change over the CCD, in the same unit.
    """

    detector: int
    physical_filter: str
    level: float
    shift: float
    structure: float

    @property
    def worst(self) -> float:
        """The larger of shift and structure."""
        return max(abs(self.shift), self.structure)


def earlier_masters(repo: "Repository", night: str, proc_type: str) -> list[tuple[str, dict[Master, Any]]]:
    """Return the nights before that have masters of their own, the latest first, each with these."""
    dataset = PROC_TYPES[proc_type].certifies
    found = [(c.night, dict(c.refs)) for c in candidates(repo, night, dataset) if c.night < night]
    return sorted(found, key=lambda item: item[0], reverse=True)


def master_changes(repo: "Repository", night: str, proc_type: str, before: dict[Master, Any]) -> list[Change]:
    """Return how a night's own masters differ from earlier ones, sorted by detector."""
    own = own_masters(repo, night, PROC_TYPES[proc_type].certifies)
    changes = []
    for master in sorted(own.keys() & before.keys()):
        now, then = (binned(glance(path_of(repo, refs[master])).small, BLOCK // BINNING) for refs in (own, before))
        change = now - then if proc_type == "bias" else now / np.where(then > 0, then, np.nan) - 1
        shift = float(np.nanmedian(change))
        structure = float(1.4826 * np.nanmedian(np.abs(change - shift)))
        changes.append(Change(master.detector, master.physical_filter, float(np.nanmedian(now)), shift, structure))
    return changes


def lacking_masters(repo: "Repository", night: str, proc_type: str) -> tuple[int, list[str]]:
    """Return how many masters the night's raws call for, without what the survey excludes, and those not certified."""
    dataset = PROC_TYPES[proc_type].certifies
    expected = night_frames(repo, night, proc_type, by_filter=dataset == datasets.FLAT).keys()
    lacking = sorted(expected - certified_masters(repo, night, dataset).keys())
    return len(expected), [" ".join(map(str, m.data_id.values())) for m in lacking]
