"""What a night has and lacks, from the registry alone."""

from typing import TYPE_CHECKING

from proc_decam_dagster.repository.queries import find_certified, find_refs
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


def registered_exposures(repo: "Repository") -> set[int]:
    """Return the exposures that have raws in the repository."""
    return {int(ref.dataId["exposure"]) for ref in find_refs(repo, datasets.RAW, names.RAW_ALL)}


def raw_detectors(repo: "Repository", night: str, proc_type: str) -> set[int]:
    """Return the detectors in a night's raws of a proc type."""
    refs = find_refs(repo, datasets.RAW, names.raw_collection(night, proc_type))
    return {int(ref.dataId["detector"]) for ref in refs}


def certified_detectors(repo: "Repository", night: str, proc_type: str) -> set[int]:
    """Return the detectors that have a certified master calibration of a night."""
    dataset = PROC_TYPES[proc_type].certifies
    refs = find_certified(repo, dataset, names.calib_collection(night, dataset))
    return {int(ref.dataId["detector"]) for ref in refs}


def missing_calexps(repo: "Repository", night: str) -> tuple[int, list[tuple[int, int]]]:
    """Return how many (exposure, detector) a night's science raws have, and those that have no calexp."""
    raws = find_refs(repo, datasets.RAW, names.raw_collection(night, "drp"))
    expected = {(int(r.dataId["exposure"]), int(r.dataId["detector"])) for r in raws}
    return len(expected), sorted(expected - _visit_detectors(repo, datasets.CALEXP, PROC_TYPES["drp"].chain(night)))


def missing_differences(
    repo: "Repository", night: str, coadd_subset: str, template_type: str
) -> tuple[int, list[tuple[int, int]]]:
    """Return how many calexps a night has, and the (visit, detector) among them that have no difference image."""
    expected = _visit_detectors(repo, datasets.CALEXP, PROC_TYPES["drp"].chain(night))
    chain = PROC_TYPES["diff_drp"].chain(night, coadd_subset, template_type)
    return len(expected), sorted(expected - _visit_detectors(repo, datasets.named(datasets.DIFFERENCE), chain))


def _visit_detectors(repo: "Repository", dataset_type: str, chain: str) -> set[tuple[int, int]]:
    return {(int(r.dataId["visit"]), int(r.dataId["detector"])) for r in find_refs(repo, dataset_type, chain)}
