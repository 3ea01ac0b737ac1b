"""Amplifiers that the survey's list masks: their boxes join the detector's defects for the nights that it names."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from astropy.table import Table
from astropy.time import Time
from lsst.daf.butler import Timespan

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.defects import BAD, boxes_to_mask, mask_to_boxes
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.exclusions import exclusions
from proc_decam_dagster.repository.presence import has_collection, has_dataset_type
from proc_decam_dagster.repository.queries import find_refs
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import CALIB_BPM

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository

OWN_RUNS = f"{CALIB_BPM}/{BAD}/"
MASKED_RUNS = f"{CALIB_BPM}/masked"
NOON_UTC_HOURS = 16
"""Local noon at Cerro Tololo, where one night ends and the next begins."""


def mask_amplifiers(repo: "Repository", night: str) -> dict[int, str]:
    """Make a night's certified defects agree with the list, and return the detectors that have amplifiers masked.

    What was masked before and no longer is gets its own defects back. The masters stay: an amplifier that is bad in
    the science frames is masked there.

    Raises
    ------
    SurveyError
        If an amplifier is to be masked of a detector whose defects were not made by `ingest_defects` in its RUNs.

    Returns
    -------
    masked : `dict` [`int`, `str`]
        Detector → letters of its masked amplifiers.
    """
    listed = exclusions(repo)
    if not any(entry.amplifier for entry in listed.history):
        return {}
    wanted: dict[int, str] = {}
    for entry in listed.amplifiers():
        if entry.of_night(night):
            for detector in entry.detectors:
                wanted[detector] = "".join(sorted({*wanted.get(detector, ""), entry.amplifier}))
    span = night_span(night)
    associations = _associations(repo)
    own = {a.ref.dataId["detector"]: a.ref for a in associations if f"{a.ref.run}/".startswith(OWN_RUNS)}
    certified = {a.ref.dataId["detector"]: a.ref for a in associations if a.timespan.overlaps(span)}
    for detector, ref in sorted(certified.items()):
        base = own.get(detector)
        if base is None:
            if detector in wanted:
                raise SurveyError(
                    f"amplifier {wanted[detector]} of CCD {detector} cannot be masked: its defects are in {ref.run}",
                    f"defects in {OWN_RUNS}", f"`proc-decam defects {repo.root} BPM_PATH` makes them",
                )  # fmt: skip
            continue  # not of our making: left alone
        # The end of the id: its beginning is the time, and the same for all that was ingested within a minute.
        run = f"{MASKED_RUNS}/{wanted[detector]}/{base.id.hex[-8:]}" if detector in wanted else base.run
        if ref.run != run:
            _certify(repo, base if run == base.run else _masked(repo, base, wanted[detector], run), span)
    return {d: amplifiers for d, amplifiers in wanted.items() if d in own}


def night_span(night: str) -> Timespan:
    """Return the time from local noon to local noon of a night."""
    begin = datetime.strptime(night, "%Y%m%d") + timedelta(hours=NOON_UTC_HOURS)
    return Timespan(Time(begin, scale="utc").tai, Time(begin + timedelta(days=1), scale="utc").tai)


def with_amplifiers(boxes: Table, detector: int, amplifiers: str) -> Table:
    """Return a detector's defect boxes (x0, y0, width, height in pixels) and those of whole amplifiers."""
    mask = boxes_to_mask(boxes)
    for amplifier in DETECTORS[detector].amplifiers:
        if amplifier.name in amplifiers:
            mask[amplifier.bbox.slices] = True
    return mask_to_boxes(mask)


def _associations(repo: "Repository") -> list[Any]:
    """Return the certified defects, each with the time that it is valid for: a masked night's stand among others."""
    # The camera's own curated defects are of the same type: it may be registered before any mask is ingested.
    if not (has_dataset_type(repo.butler(), datasets.DEFECTS) and has_collection(repo.butler(), CALIB_BPM)):
        return []
    return list(repo.butler().registry.queryDatasetAssociations(datasets.DEFECTS, collections=[CALIB_BPM]))


def _masked(repo: "Repository", base: Any, amplifiers: str, run: str) -> Any:
    """Return the defects of a detector with amplifiers masked; written once for each version of its own defects."""
    detector = base.dataId["detector"]
    there = find_refs(repo, datasets.DEFECTS, run, f"instrument='{INSTRUMENT}' AND detector={detector}")
    if there:
        return there[0]
    boxes = with_amplifiers(repo.engine.read_defects(repo.butler(), base), detector, amplifiers)
    return repo.engine.put_defects(repo.butler(writeable=True), datasets.DEFECTS, {detector: boxes}, run)[0]


def _certify(repo: "Repository", ref: Any, span: Timespan) -> None:
    butler = repo.butler(writeable=True)
    with repo.lock(CALIB_BPM, wait_seconds=60), butler.transaction():
        butler.registry.decertify(CALIB_BPM, datasets.DEFECTS, span, dataIds=[ref.dataId])
        butler.registry.certify(CALIB_BPM, [ref], span)
