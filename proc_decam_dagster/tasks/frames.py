"""Choosing the frames of a master calibration, and saying so when there are too few."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lsst.daf.butler import MissingDatasetTypeError, Timespan
from lsst.pipe.base import AlgorithmError

from proc_decam_dagster.pixels.raw_statistics import select_frames


class TooFewFramesError(AlgorithmError):
    """A master calibration has fewer usable frames than its minimum: it is not made, and nothing is certified.

    Parameters
    ----------
    kind : `str`
        ``bias`` or ``flat``.
    detector : `int`
    usable, minimum : `int`
        How many frames there are and how many are needed.
    rejected : mapping [`int`, `str`]
        Exposures left out, with the reason.
    """

    def __init__(self, kind: str, detector: int, usable: int, minimum: int, rejected: Mapping[int, str]) -> None:
        self.details = {"usable": usable, "minimum": minimum, "rejected": {str(k): v for k, v in rejected.items()}}
        reasons = "; ".join(f"exposure {exposure}: {reason}" for exposure, reason in sorted(rejected.items()))
        super().__init__(
            f"{kind} of detector {detector}: {usable} usable frames, expected at least {minimum}"
            + (f" ({len(rejected)} left out: {reasons})" if rejected else "")
            + "; take the master of a neighbouring night, or lower minFrames"
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What was found, for the task's metadata."""
        return self.details


def usable_frames(
    kind: str,
    detector: int,
    available: Iterable[int],
    statistics: Sequence[Mapping[str, Any]],
    minimum: int,
    rejected: Mapping[int, str] | None = None,
) -> tuple[list[int], dict[int, str]]:
    """Return the exposures to combine and those left out, with the reason.

    Parameters
    ----------
    kind : `str`
        ``bias`` or ``flat``.
    detector : `int`
    available : iterable of `int`
        Exposures whose raws can be read.
    statistics : sequence of mapping
        ``rawStatistics`` of this detector.
    minimum : `int`
        Least number of frames.
    rejected : mapping, optional
        Exposures that are known to be unusable.

    Raises
    ------
    TooFewFramesError
        Raised if fewer than ``minimum`` frames are usable.
    """
    left_out = dict(rejected or {})
    available = sorted(available)
    known = {
        int(each["exposure"]): each["amplifiers"]
        for each in statistics
        if int(each["exposure"]) in available and int(each["exposure"]) not in left_out
    }
    for exposure in available:
        if exposure not in known:
            left_out.setdefault(exposure, "its raw statistics are missing")
    good, bad = select_frames(known, zeros=kind == "bias")
    left_out |= bad
    if len(good) < minimum:
        raise TooFewFramesError(kind, detector, len(good), minimum, left_out)
    return good, left_out


def any_time(dataset_type, registry, data_id, collections):
    """Look a calibration up for a quantum without a time of its own; the first collection that has one decides."""
    try:
        ref = registry.findDataset(dataset_type, data_id, collections=collections, timespan=Timespan(None, None))
    except MissingDatasetTypeError:  # an optional calibration that this repository never had
        return []
    return [] if ref is None else [ref]
