"""Masters against those of the last good nights: one whose level is far from all of them is not certified unawares."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from lsst.daf.butler import CollectionType

from proc_decam_dagster.repository.queries import Master, master_of, source_night
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import calib_collection
from proc_decam_dagster.survey.nights import is_night

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository

COMPARED_NIGHTS = 3
"""A bad night must not condemn those after it: one of the last nights is to agree."""
FAR = {datasets.BIAS: 15.0, datasets.FLAT: 0.09}
"""Change of a master's level (ADU; relative) that is a fault: three times what the asset checks warn of."""


def far_masters(repo: "Repository", night: str, dataset: str, masters: Mapping[Master, Any]) -> dict[Master, str]:
    """Return which masters (`Master` → ref) are far from those of the last nights that have their own, and why.

    Levels are medians of pixels of both amplifiers. Where no earlier night has such a master, or it has no pixels,
    there is nothing to be far from.
    """
    butler, left, far, seen = repo.butler(), dict(masters), set(), []
    collections = butler.collections.query(
        calib_collection("*", dataset), collection_types={CollectionType.CALIBRATION}
    )
    earlier = {c.partition("/")[0] for c in collections if is_night(c.partition("/")[0])}
    for other in sorted((n for n in earlier if n < night), reverse=True):
        if not left or len(seen) == COMPARED_NIGHTS:
            break
        refs = butler.query_datasets(
            dataset, calib_collection(other, dataset), find_first=False, limit=None, explain=False
        )
        before = {master_of(ref): ref for ref in refs if source_night(ref) == other}
        common = left.keys() & before.keys()
        seen += [other] if common else []
        for master in common:
            if _changed(repo, dataset, left[master], before[master]):
                far.add(master)
            else:
                far.discard(master)
                del left[master]
    reason = (
        f"its level is far from that of night {', '.join(seen)}; if it is right, say so with "
        f"`proc-decam calibrations set {repo.root} {night} --from own`, and run it again"
    )
    return dict.fromkeys(far, reason)


def _changed(repo: "Repository", dataset: str, now: Any, then: Any) -> bool:
    """Whether the level of one of a master's amplifiers is far from another master's."""
    pixels = [repo.engine.master_pixels(repo.butler(), ref) for ref in (now, then)]
    if any(found is None for found in pixels):
        return False
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        new, old = (np.array([np.nanmedian(h) for h in np.array_split(found, 2, axis=1)]) for found in pixels)
        change = np.abs(new - old if dataset == datasets.BIAS else new / old - 1)
    dead = np.isnan(new) & np.isnan(old)
    return not np.all(dead | (change <= FAR[dataset]))
