"""Master calibrations certified for a night, detector by detector, and taken back."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from astropy.time import Time
from lsst.daf.butler import CollectionType, Timespan

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.presence import has_collection, has_dataset_type
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import calib_collection, raw_collection
from proc_decam_dagster.survey.proc_types import proc_type as proc_type_row

log = logging.getLogger(__name__)

VALID_BEGIN, VALID_END = "2000-01-01T00:00:00", "2050-01-01T00:00:00"
"""A night's masters are chosen by their collection, so that their validity spans the survey."""
ALL_BEGIN, ALL_END = "1970-01-01T00:00:00", "2100-01-01T00:00:00"
MIN_FRAMES = 5
ISR_TASK = {datasets.BIAS: "cpBiasIsr", datasets.FLAT: "cpFlatIsr"}
"""The task whose successes are the frames that a master was made from."""


@dataclass
class CertifyReport:
    """What was certified, and what was not and why.

    Attributes
    ----------
    dataset, collection : `str`
    certified : `list` [`dict`]
        Data ids (detector, and physical_filter if the dataset has one).
    refused : `list` [`tuple` [`dict`, `str`]]
        Data id and reason of each that was expected or there, but is not certified.
    kept : `int`
        Certified before, for other detectors or filters, and left as they are.
    """

    dataset: str
    collection: str
    certified: list[dict[str, Any]] = field(default_factory=list)
    refused: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    kept: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything expected is certified."""
        return not self.refused


def timespan(begin: str, end: str) -> Timespan:
    """Return a validity range from two ISO 8601 dates (TAI)."""
    return Timespan(Time(begin, scale="tai"), Time(end, scale="tai"))


def certify_calibrations(
    repo: Repository,
    proc_type: str,
    night: str,
    *,
    expected_detectors: Iterable[int],
    min_frames: int = MIN_FRAMES,
    frames: Mapping[tuple[int, str], int] | None = None,
    check: Callable[[Any], str | None] | None = None,
) -> CertifyReport:
    """Certify a night's masters into ``{night}/calib/{bias,flat}``.

    Only what the chain holds now is replaced: a run on one detector leaves the other 61 certified.

    Parameters
    ----------
    expected_detectors : iterable of `int`
        Detectors that must have a master (for a flat, in each of the night's filters); each that has none is named.
    min_frames : `int`
        A master of fewer frames is not certified.
    frames : mapping, optional
        (detector, physical filter or "") → number of frames; counted in the chain if not given.
    check : callable, optional
        Given a ref, returns the reason why it must not be certified, or `None`.

    Raises
    ------
    SurveyError
        If the proc type certifies nothing, or has no chain for the night.
    """
    row = proc_type_row(proc_type)
    if row.certifies is None:
        raise SurveyError(f"proc type {row.name} makes no calibrations", "bias or flat")
    dataset, chain = row.certifies, row.chain(night)
    collection = calib_collection(night, dataset)
    report = CertifyReport(dataset, collection)
    butler = repo.butler(writeable=True)
    if not has_collection(butler, chain):
        raise SurveyError(
            f"night {night} has no collection {chain}",
            fix=f"run `proc-decam pipeline {repo.root} {row.name} {night}` first",
        )
    with repo.lock(collection, wait_seconds=60):
        if frames is None:
            frames = count_frames(butler, chain, dataset, raw_collection(night, row.name))
        refs = _masters(butler, dataset, chain)
        good = []
        for ref in refs:
            reason = _too_few(ref, frames, min_frames) or (check(ref) if check else None)
            if reason:
                report.refused.append((_data_id(ref), reason))
            else:
                good.append(ref)
        report.refused += _absent(refs, expected_detectors, frames, butler, dataset)
        report.kept = _replace(butler, dataset, collection, good)
        report.certified = [_data_id(ref) for ref in good]
    for data_id, reason in report.refused:
        log.warning("%s %s is not certified: %s", dataset, data_id, reason)
    return report


def decertify(repo: Repository, collection: str, dataset: str, *, begin: str = ALL_BEGIN, end: str = ALL_END) -> None:
    """Take back every certification of a dataset type in a CALIBRATION collection, by default from 1970 to 2100.

    Raises
    ------
    SurveyError
        If the collection or dataset type does not exist, or the collection holds no calibrations.
    """
    butler = repo.butler(writeable=True)
    if not has_collection(butler, collection):
        raise SurveyError(
            f"collection {collection} does not exist", fix=f"`butler query-collections {repo.root}` lists all"
        )
    kind = butler.collections.get_info(collection).type
    if kind is not CollectionType.CALIBRATION:
        raise SurveyError(f"collection {collection} is a {kind.name}", "a CALIBRATION collection")
    if not has_dataset_type(butler, dataset):
        raise SurveyError(
            f"dataset type {dataset} does not exist", fix=f"`butler query-dataset-types {repo.root}` lists all"
        )
    with repo.lock(collection, wait_seconds=60):
        if _certified(butler, dataset, collection):
            butler.registry.decertify(collection, dataset, timespan(begin, end))


def certify_refs(butler: Any, collection: str, refs: Iterable[Any], begin: str = ALL_BEGIN, end: str = ALL_END) -> None:
    """Certify refs in one transaction, replacing what was certified for their data ids."""
    refs = list(refs)
    butler.collections.register(collection, CollectionType.CALIBRATION)
    with butler.transaction():
        for name in {ref.datasetType.name for ref in refs}:
            of_type = [ref for ref in refs if ref.datasetType.name == name]
            if _certified(butler, name, collection):
                butler.registry.decertify(
                    collection, name, timespan(ALL_BEGIN, ALL_END), dataIds=[ref.dataId for ref in of_type]
                )
            butler.registry.certify(collection, of_type, timespan(begin, end))


def count_frames(butler: Any, chain: str, dataset: str, raws: str) -> Counter[tuple[int, str]]:
    """Return the number of frames behind each master, by (detector, physical filter; "" for a bias).

    Counted from the instrument signature removals that succeeded; from the tagged raws if none is recorded.
    """
    metadata = f"{ISR_TASK[dataset]}_metadata"
    name, collection = (metadata, chain) if has_dataset_type(butler, metadata) else (datasets.RAW, raws)
    found = butler.query_datasets(
        name, [collection], limit=None, explain=False, with_dimension_records=True, where=f"instrument='{INSTRUMENT}'"
    )
    return Counter(
        (ref.dataId["detector"], ref.dataId.records["exposure"].physical_filter if dataset == datasets.FLAT else "")
        for ref in found
    )


def _masters(butler: Any, dataset: str, chain: str) -> list[Any]:
    """Return the newest master of each data id among the chain's own RUNs: not those certified before."""
    if not has_dataset_type(butler, dataset):
        return []
    info = butler.collections.get_info(chain)
    runs = [c for c in info.children if butler.collections.get_info(c).type is CollectionType.RUN]
    if not runs:
        return []
    refs = butler.query_datasets(dataset, runs, limit=None, explain=False, where=f"instrument='{INSTRUMENT}'")
    return sorted(refs, key=lambda ref: tuple(str(v) for v in ref.dataId.required_values))


def _certified(butler: Any, dataset: str, collection: str) -> list[Any]:
    """Return what is certified. The middleware's decertify fails on a collection that never held the dataset type."""
    return butler.query_datasets(dataset, [collection], find_first=False, limit=None, explain=False)


def _data_id(ref: Any) -> dict[str, Any]:
    return {k: v for k, v in ref.dataId.required.items() if k != "instrument"}


def _too_few(ref: Any, frames: Mapping[tuple[int, str], int], min_frames: int) -> str | None:
    data_id = _data_id(ref)
    number = frames.get((data_id["detector"], data_id.get("physical_filter", "")), 0)
    return f"made from {number} frames, expected at least {min_frames}" if number < min_frames else None


def _absent(
    refs: list[Any], expected: Iterable[int], frames: Mapping[tuple[int, str], int], butler: Any, dataset: str
) -> list[tuple[dict[str, Any], str]]:
    """Return the expected data ids without a master: a flat is expected in every filter that has frames."""
    found = {(d["detector"], d.get("physical_filter", "")) for d in map(_data_id, refs)}
    filters = sorted({f for _, f in frames} | {f for _, f in found}) or [""]
    return [
        ({"detector": detector} | ({"physical_filter": name} if name else {}), f"the pipeline made no {dataset}")
        for name in filters
        for detector in sorted(set(expected))
        if (detector, name) not in found
    ]


def _replace(butler: Any, dataset: str, collection: str, refs: list[Any]) -> int:
    """Certify refs in place of those of the same data ids; return how many others stay."""
    butler.collections.register(collection, CollectionType.CALIBRATION)
    if not has_dataset_type(butler, dataset):
        return 0
    replaced = {tuple(ref.dataId.required_values) for ref in refs}
    before = _certified(butler, dataset, collection)
    if refs:
        certify_refs(butler, collection, refs, VALID_BEGIN, VALID_END)
    return len({tuple(r.dataId.required_values) for r in before} - replaced)
