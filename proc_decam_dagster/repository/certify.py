"""Master calibrations certified for a night when they are complete, and taken back."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from astropy.time import Time
from lsst.daf.butler import CollectionType, Timespan

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.levels import far_masters
from proc_decam_dagster.repository.master_frames import Frames, frames_of_masters
from proc_decam_dagster.repository.presence import has_collection, has_dataset_type
from proc_decam_dagster.repository.queries import Master, master_of, night_frames, source_night
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import calib_collection
from proc_decam_dagster.survey.proc_types import MIN_FRAMES
from proc_decam_dagster.survey.proc_types import proc_type as proc_type_row

log = logging.getLogger(__name__)

VALID_BEGIN, VALID_END = "2000-01-01T00:00:00", "2050-01-01T00:00:00"
"""A night's masters are chosen by their collection, so that their validity spans the survey."""
ALL_BEGIN, ALL_END = "1970-01-01T00:00:00", "2100-01-01T00:00:00"
LEFT_OUT = "frames that they hold are left out by now"


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
    withheld : `list` [`dict`]
        Data ids of good masters that are not certified because others of their set were refused.
    replaced : `list` [`str`]
        Nights whose masters stood in for those that are certified now.
    kept : `int`
        Certified before, for other detectors or filters, and left as they are.
    """

    dataset: str
    collection: str
    certified: list[dict[str, Any]] = field(default_factory=list)
    refused: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    withheld: list[dict[str, Any]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything expected is certified."""
        return not self.refused

    def __str__(self) -> str:
        text = f"certified {len(self.certified)} {self.dataset} into {self.collection}"
        if self.replaced:
            text += f", in place of those of night {', '.join(self.replaced)}"
        if self.kept:
            text += f", {self.kept} others kept"
        return text + (f"; not certified: {self.why_not}" if self.refused else "")

    @property
    def why_not(self) -> str:
        """The reasons in one line, the data ids of each together, and what was withheld for them."""
        reasons: dict[str, list[str]] = {}
        for data_id, reason in self.refused:
            name = " of ".join(str(data_id[k]) for k in ("detector", "physical_filter") if k in data_id)
            reasons.setdefault(reason, []).append(name)
        text = "; ".join(
            f"detector {', '.join(names[:10])}{' …' if len(names) > 10 else ''}: {reason}"
            for reason, names in reasons.items()
        )
        return text + (f" (and so {len(self.withheld)} good ones are withheld)" if self.withheld else "")


def timespan(begin: str, end: str) -> Timespan:
    """Return a validity range from two ISO 8601 dates (TAI)."""
    return Timespan(Time(begin, scale="tai"), Time(end, scale="tai"))


def certify_calibrations(
    repo: Repository,
    proc_type: str,
    night: str,
    *,
    expected: Mapping[Master, Collection[int]],
    min_frames: int = MIN_FRAMES,
    partial: bool = False,
    trusted: Collection[Master] = (),
) -> CertifyReport:
    """Certify a night's masters into ``{night}/calib/{bias,flat}``, each filter's when it is complete.

    A set is complete when every expected detector has a master, made from all of the expected frames, and enough of
    them, from none that the night has no longer, and at the levels of the last good nights. Only what is expected is
    judged and replaced: a run on one detector leaves the other 61 certified.

    Parameters
    ----------
    expected : mapping
        `Master` → exposures that it is to be made from; see `night_frames`.
    min_frames : `int`
        A master of fewer frames is not certified.
    partial : `bool`
        Whether the good masters of an incomplete set are certified too, those that lack some frames included.

    trusted : collection of `Master`
        Those that are certified whatever their levels; others must not be far from the last good nights'.

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
    butler = repo.butler()
    if not has_collection(butler, chain):
        raise SurveyError(
            f"night {night} has no collection {chain}",
            fix=f"run `proc-decam pipeline {repo.root} {row.name} {night}` first",
        )
    with repo.lock(collection, wait_seconds=60):
        masters = {master_of(ref): ref for ref in _masters(butler, dataset, chain)}
        frames = frames_of_masters(repo, row, night, {m: r for m, r in masters.items() if m in expected}, expected)
        reasons = {m: _reason(frames.get(m), dataset, min_frames, partial) for m in expected}
        doubted = {m: masters[m] for m, reason in reasons.items() if not reason and m not in trusted}
        reasons |= far_masters(repo, night, dataset, doubted)
        report.refused = [(m.data_id, reason) for m, reason in sorted(reasons.items()) if reason]
        incomplete = set() if partial else {m.physical_filter for m, reason in reasons.items() if reason}
        good = [masters[m] for m, reason in sorted(reasons.items()) if not reason]
        report.withheld = [master_of(r).data_id for r in good if master_of(r).physical_filter in incomplete]
        _replace(repo, report, [r for r in good if master_of(r).physical_filter not in incomplete], night)
    for data_id, reason in report.refused:
        log.warning("%s %s is not certified: %s", dataset, data_id, reason)
    return report


def decertify(
    repo: Repository, collection: str, dataset: str, *, begin: str = ALL_BEGIN, end: str = ALL_END,
    data_ids: Iterable[Mapping[str, Any]] | None = None,
) -> None:  # fmt: skip
    """Take back certifications of a dataset type in a CALIBRATION collection, by default from 1970 to 2100.

    All of them, unless ``data_ids`` (without the instrument) names some.

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
            chosen = None if data_ids is None else [{"instrument": INSTRUMENT, **d} for d in data_ids]
            butler.registry.decertify(collection, dataset, timespan(begin, end), dataIds=chosen)


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


def outdated_masters(repo: Repository, proc_type: str, night: str, where: str = "") -> dict[Master, str]:
    """Return the masters in a night's chain that to combine its frames again would change, and why."""
    row = proc_type_row(proc_type)
    masters = {master_of(ref): ref for ref in _masters(repo.butler(), row.certifies, row.chain(night))}
    expected = night_frames(repo, night, row.name, by_filter=row.certifies == datasets.FLAT, where=where)
    frames = frames_of_masters(repo, row, night, {m: r for m, r in masters.items() if m in expected}, expected)
    late = {m: "frames were processed since" for m, found in frames.items() if found.late}
    return dict(sorted(({m: LEFT_OUT for m, found in frames.items() if found.foreign} | late).items()))


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


def _reason(frames: Frames | None, dataset: str, min_frames: int, partial: bool) -> str | None:
    """Return why a master must not be certified; `None` if it may."""
    if frames is None:
        return f"the pipeline made no {dataset}"
    if frames.number < min_frames:
        return f"made from {frames.number} frames, expected at least {min_frames} (--min-frames)"
    if frames.missing and not partial:
        return f"made from {frames.wanted - len(frames.missing)} of {frames.wanted} frames"
    if frames.foreign:
        return f"made with exposure {', '.join(map(str, frames.foreign))}, which the night has no longer"
    return None


def _replace(repo: Repository, report: CertifyReport, refs: list[Any], night: str) -> None:
    """Certify refs in place of those of the same data ids."""
    butler = repo.butler()
    if not has_collection(butler, report.collection):
        butler = repo.butler(writeable=True)
        butler.collections.register(report.collection, CollectionType.CALIBRATION)
    if not has_dataset_type(butler, report.dataset):
        return
    before = {master_of(ref): ref for ref in _certified(butler, report.dataset, report.collection)}
    new = {master_of(ref): ref for ref in refs}
    # What is certified already is left alone: others may be reading it.
    changed = {m: ref for m, ref in new.items() if m not in before or before[m].id != ref.id}
    if changed:
        certify_refs(repo.butler(writeable=True), report.collection, changed.values(), VALID_BEGIN, VALID_END)
    report.kept = len(before.keys() - new.keys())
    report.replaced = sorted({source_night(before[m]) for m in changed if m in before} - {night})
    report.certified = [master.data_id for master in sorted(new)]
