"""What a night has and lacks, from the registry alone."""

from typing import TYPE_CHECKING

from proc_decam_dagster.repository.chains import processing_chains
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.exclusions import exclusion_terms
from proc_decam_dagster.repository.master_frames import ISR_TASK
from proc_decam_dagster.repository.queries import find_refs
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


def missing_calexps(repo: "Repository", night: str) -> tuple[int, list[tuple[int, int]]]:
    """Return how many (exposure, detector) a night's science raws have, and those that have no calexp.

    What the survey's list excludes is neither expected nor missing.
    """
    expected = _frames(repo, night, "drp")
    return len(expected), sorted(expected - _visit_detectors(repo, datasets.CALEXP, PROC_TYPES["drp"].chain(night)))


def unprocessed_frames(repo: "Repository", night: str) -> dict[str, int]:
    """Return how many (exposure, detector) have come to a night since its chains were made: chain → number.

    A chain that was never made has none: it is missing, not stale.
    """
    have = set(processing_chains(repo.butler()))
    late = {}
    for name, row in PROC_TYPES.items():
        if row.obs_type is None or row.chain(night) not in have:
            continue
        made = find_refs(repo, f"{ISR_TASK.get(row.certifies, 'isr')}_metadata", row.chain(night))
        frames = {(int(r.dataId["exposure"]), int(r.dataId["detector"])) for r in made}
        if frames and (new := _frames(repo, night, name) - frames):
            late[row.chain(night)] = len(new)
    return late


def missing_differences(
    repo: "Repository", night: str, coadd_subset: str, template_type: str
) -> tuple[int, list[tuple[int, int]]]:
    """Return how many calexps a night has, and the (visit, detector) among them that have no difference image."""
    expected = _visit_detectors(repo, datasets.CALEXP, PROC_TYPES["drp"].chain(night), excluded=False)
    chain = PROC_TYPES["diff_drp"].chain(night, coadd_subset, template_type)
    return len(expected), sorted(expected - _visit_detectors(repo, datasets.named(datasets.DIFFERENCE), chain))


def _frames(repo: "Repository", night: str, proc_type: str) -> set[tuple[int, int]]:
    """Return the (exposure, detector) of a night's raws, without what the survey's list excludes."""
    where = " AND ".join([f"instrument='{INSTRUMENT}'", *exclusion_terms(repo, ("instrument", "exposure", "detector"))])
    refs = find_refs(repo, datasets.RAW, names.raw_collection(night, proc_type), where)
    return {(int(r.dataId["exposure"]), int(r.dataId["detector"])) for r in refs}


def _visit_detectors(repo: "Repository", dataset_type: str, chain: str, excluded: bool = True) -> set[tuple[int, int]]:
    """Return the (visit, detector) that a chain has, with or without what the survey's list excludes by now."""
    terms = [] if excluded else exclusion_terms(repo, ("instrument", "visit", "detector"))
    where = " AND ".join([f"instrument='{INSTRUMENT}'", *terms]) if terms else ""
    return {(int(r.dataId["visit"]), int(r.dataId["detector"])) for r in find_refs(repo, dataset_type, chain, where)}
