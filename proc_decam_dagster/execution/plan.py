"""What processing nights and subsets would take, before anything is run: data to fetch and write, time, what lacks.

Costs are those of this repository's own past: processor time from the ledger of attempts, bytes from the files of the
chains that are there, each a frame (an exposure's CCD). Where there is no past, they are unknown, and told so.
"""

import os
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.calibration_policy import days_apart, distance
from proc_decam_dagster.survey.exposures import rows_of_obs_type
from proc_decam_dagster.survey.night_summary import TYPICAL_BYTES, known_bytes
from proc_decam_dagster.survey.proc_types import PROC_TYPES, proc_type

if TYPE_CHECKING:
    from astropy.table import Table

    from proc_decam_dagster.repository import Repository

PAST_CHAINS = 12
"""How many chains of a proc type its costs are measured on, the newest ones."""
DONE_BY = {"drp": datasets.CALEXP, "diff_drp": datasets.named(datasets.DIFFERENCE)}
"""Proc type → the dataset of a frame that tells that it is done."""
OBS_TYPES = tuple(row.obs_type for row in PROC_TYPES.values() if row.obs_type)


@dataclass
class Cost:
    """Mean cost of one frame: an exposure's CCD.

    Attributes
    ----------
    cpu_seconds, bytes : `float`
        NaN where nothing is known.
    frames : `int`
        Frames that it was measured on.
    """

    cpu_seconds: float = float("nan")
    bytes: float = float("nan")
    frames: int = 0


@dataclass
class PlannedChain:
    """One chain: what it would take.

    Attributes
    ----------
    chain, proc_type, night : `str`
        Its name, kind and night (empty for a coadd).
    exposures, frames : `int`
        Exposures, and their CCDs.
    done, failed, excluded : `int`
        Frames that need no work: done before, failed for good, left out by the survey's list.
    to_do : `int`
        Frames that would be processed.
    fetch_files, fetch_gb : `int`, `float`
        Files that are not here yet.
    write_gb, core_hours : `float`
        What processing would take; NaN if unknown.
    lacks : `list` [`str`]
        Calibrations that its frames need and the night has none of, and what could stand in.
    why : `list` [`str`]
        Why frames are skipped.
    """

    chain: str
    proc_type: str
    night: str = ""
    exposures: int = 0
    frames: int = 0
    done: int = 0
    failed: int = 0
    excluded: int = 0
    to_do: int = 0
    fetch_files: int = 0
    fetch_gb: float = 0.0
    write_gb: float = 0.0
    core_hours: float = 0.0
    lacks: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)


@dataclass
class Plan:
    """All chains, and what the costs were taken from."""

    chains: list[PlannedChain]
    costs: dict[str, Cost]

    def total(self, name: str) -> float:
        """Return the sum of a figure over the chains; what is unknown makes it NaN."""
        return sum(getattr(c, name) for c in self.chains)

    @property
    def unknown(self) -> list[str]:
        """Proc types that have no past in this repository, so that their time and size are unknown."""
        wanted = dict.fromkeys(c.proc_type for c in self.chains if c.to_do)
        return [name for name in wanted if not self.costs[name].frames]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-friendly values; what is unknown is `None`."""

        def plain(values: Mapping[str, Any]) -> dict[str, Any]:
            return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in values.items()}

        return {
            "chains": [plain(asdict(c)) for c in self.chains],
            "costs": {name: plain(asdict(cost)) for name, cost in self.costs.items()},
        }


def make_plan(
    table: "Table",
    nights: Iterable[str],
    proc_types: Iterable[str] = ("bias", "flat", "drp"),
    *,
    repository: "Repository | None" = None,
    coadds: Iterable[tuple[str, str]] = (),
    verified: Collection[str] = (),
    detectors: Collection[int] = (),
) -> Plan:
    """Return what processing would take.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Exposure table.
    nights : iterable of `str`
        Nights to process.
    proc_types : iterable of `str`
        ``bias``, ``flat``, ``drp``, ``coadd``, ``diff_drp``.
    repository : `Repository`, optional
        Where it would run; without one, nothing is done and nothing is known of costs.
    coadds : iterable of (`str`, `str`)
        Coadd subset and template type, of coadd and diff_drp.
    verified : collection of `str`
        md5s of files that are here and verified.
    detectors : collection of `int`
        CCDs that are processed; if empty, those of a night's raws where they are ingested, else all.
    """
    nights, coadds = sorted(set(map(str, nights))), list(coadds)
    rows = [proc_type(name) for name in proc_types]
    planner = _Planner(table, repository, set(verified), set(detectors))
    chains: list[PlannedChain] = []
    for row in rows:
        if row.name == "coadd":
            chains += [planner.coadd(subset, template_type, nights) for subset, template_type in coadds]
            continue
        axes = coadds if "coadd_subset" in row.axes else [("", "")]
        chains += [p for n in nights for c, t in axes if (p := planner.night(row, n, c, t)) is not None]
    costs = planner.costs({c.proc_type for c in chains})
    for chain in chains:
        cost = costs[chain.proc_type]
        if chain.to_do:
            chain.core_hours = chain.to_do * cost.cpu_seconds / 3600
            chain.write_gb = chain.to_do * cost.bytes / 1e9
    return Plan(chains, costs)


class _Planner:
    """Looks things up for a plan, each but once."""

    def __init__(
        self, table: "Table", repository: "Repository | None", verified: set[str], detectors: set[int]
    ) -> None:
        self.repository, self.verified, self.detectors = repository, verified, detectors
        column = np.asarray(table["night"]).astype(str)
        order = np.argsort(column, kind="stable")
        known, starts = np.unique(column[order], return_index=True)
        parts = np.split(order, starts[1:])
        self.by_night = {night: table[np.sort(part)] for night, part in zip(known.tolist(), parts)}
        self.bands = {
            (night, kind): set(map(str, rows_of_obs_type(part, kind)["band"]))
            for night, part in self.by_night.items() for kind in OBS_TYPES
        }  # fmt: skip
        self.chains: set[str] = set()
        self.failures: Counter[tuple[str, int, int]] = Counter()
        self.exclusions = None
        if repository is not None:
            from proc_decam_dagster.repository import exclusions

            self.chains = set(repository.butler().collections.query("*", flatten_chains=False))
            self.exclusions = exclusions(repository)
            self._look_up_failures()

    def _detectors(self, night: str, name: str) -> Collection[int]:
        """Return the CCDs of a night's raws of a proc type."""
        if self.detectors:
            return self.detectors
        tag = names.raw_collection(night, name)
        refs = self._refs(datasets.RAW, tag) if tag in self.chains else []
        return {int(ref.dataId["detector"]) for ref in refs} or DETECTORS

    def _look_up_failures(self) -> None:
        """Count the frames of each chain of which a quantum failed and will not be tried again."""
        from proc_decam_dagster.execution.ledger import Ledger
        from proc_decam_dagster.execution.retries import tries_left
        from proc_decam_dagster.execution.step import RETRIES

        for failed in Ledger.of(self.repository).failures():
            exposure = failed.data_id.get("exposure", failed.data_id.get("visit"))
            if exposure is not None and "detector" in failed.data_id and not tries_left(failed, RETRIES):
                self.failures[failed.chain, int(exposure), int(failed.data_id["detector"])] += 1

    def night(self, row: Any, night: str, coadd_subset: str, template_type: str) -> PlannedChain | None:
        """Plan a night's chain; `None` if the night has no frames for it."""
        part = self.by_night.get(night)
        frames_of = proc_type("drp") if row.obs_type is None else row
        part = None if part is None else rows_of_obs_type(part, frames_of.obs_type)
        if part is None or not len(part):
            return None
        chain = row.chain(night, coadd_subset, template_type)
        numbers = sorted({int(n) for n in part["EXPNUM"]})
        wanted = {(n, d) for n in numbers for d in self._detectors(night, frames_of.name)}
        planned = PlannedChain(chain, row.name, night, len(numbers), len(wanted))
        left_out = self._excluded(wanted, night, planned)
        done = self._done(row, chain, night, part, wanted)
        failed = {f for f in wanted if self.failures[chain, *f]} - done - left_out
        planned.excluded, planned.done, planned.failed = len(left_out), len(done - left_out), len(failed)
        planned.to_do = len(wanted - left_out - done - failed)
        if failed:
            planned.why.append(f"{len(failed)} failed for good before (--retry-failed tries them again)")
        if row.obs_type is not None:
            self._to_fetch(part, planned)
            planned.lacks = self._lacking(row, night, part) if planned.to_do else []
        return planned

    def coadd(self, coadd_subset: str, template_type: str, nights: list[str]) -> PlannedChain:
        """Plan a coadd of some nights."""
        chain = PROC_TYPES["coadd"].chain("", coadd_subset, template_type)
        planned = PlannedChain(chain, "coadd")
        for night in nights:
            part = self.by_night.get(night)
            if part is not None:
                exposures = len(set(rows_of_obs_type(part, PROC_TYPES["drp"].obs_type)["EXPNUM"]))
                planned.exposures += exposures
                planned.frames += exposures * len(self._detectors(night, "drp"))
        if self._has(chain, datasets.named(datasets.COADD)) and self._recorded(coadd_subset, template_type) == nights:
            planned.done = planned.frames
            planned.why.append("made of these nights before")
        planned.to_do = planned.frames - planned.done
        return planned

    def costs(self, wanted: Iterable[str]) -> dict[str, Cost]:
        """Return what a frame has cost so far, by proc type."""
        if self.repository is None:
            return {name: Cost() for name in wanted}
        from proc_decam_dagster.execution.ledger import Ledger

        spent = Ledger.of(self.repository).cpu_seconds()
        return {name: self._cost(name, spent) for name in wanted}

    def _cost(self, name: str, spent: Mapping[str, float]) -> Cost:
        times, sizes, frames = [], [], 0
        known = {chain: names.parse_chain(chain) for chain in sorted(spent) if names.is_processing_chain(chain)}
        ours = [(chain, parts) for chain, parts in known.items() if parts.proc_type == name]
        for chain, parts in ours[-PAST_CHAINS:]:
            number = self._past_frames(parts)
            if number:
                times.append(spent[chain] / number)
                sizes.append(bytes_below(Path(self.repository.root) / chain) / number)
                frames += number
        if not frames:
            return Cost()
        return Cost(statistics.fmean(times), statistics.fmean(sizes), frames)

    def _past_frames(self, parts: names.Chain) -> int:
        """Return the frames that a chain was made of."""
        from proc_decam_dagster.repository import coadd_nights

        if parts.proc_type == "coadd":
            nights = coadd_nights(self.repository, parts.coadd_subset, parts.template_type)
            return sum(len(self._refs(datasets.RAW, names.raw_collection(n, "drp"))) for n in nights)
        own = "drp" if PROC_TYPES[parts.proc_type].obs_type is None else parts.proc_type
        return len(self._refs(datasets.RAW, names.raw_collection(parts.subset, own)))

    def _excluded(self, wanted: set[tuple[int, int]], night: str, planned: PlannedChain) -> set[tuple[int, int]]:
        if self.exclusions is None or not self.exclusions.current:
            return set()
        reasons = {f: r for f in wanted if (r := self.exclusions.reason(*f, night))}
        planned.why += [f"{n} left out: {reason}" for reason, n in sorted(Counter(reasons.values()).items())]
        return set(reasons)

    def _done(self, row: Any, chain: str, night: str, part: "Table", wanted: set) -> set[tuple[int, int]]:
        """Return the frames that are done: of a calibration, all of a detector's once its master is certified."""
        if chain not in self.chains:
            return set()
        if row.certifies:
            from proc_decam_dagster.repository.queries import master_of
            from proc_decam_dagster.repository.substitutes import own_masters

            masters = own_masters(self.repository, night, row.certifies)
            bands = {int(r["EXPNUM"]): str(r["band"]) for r in part}
            certified = {(m.detector, self._band(master_of, ref)) for m, ref in masters.items()}
            return {(n, d) for n, d in wanted if {(d, ""), (d, bands[n])} & certified}
        refs = self._refs(DONE_BY[row.name], chain)
        return {(int(r.dataId["visit"]), int(r.dataId["detector"])) for r in refs} & wanted

    @staticmethod
    def _band(master_of: Any, ref: Any) -> str:
        from proc_decam_dagster.camera.filters import band_of

        name = master_of(ref).physical_filter
        return band_of(name) if name else ""

    def _to_fetch(self, part: "Table", planned: PlannedChain) -> None:
        lacking = part[[str(m) not in self.verified for m in part["md5sum"]]]
        size, unknown = known_bytes(lacking)
        planned.fetch_files, planned.fetch_gb = len(lacking), (size + unknown * TYPICAL_BYTES) / 1e9

    def _lacking(self, row: Any, night: str, part: "Table") -> list[str]:
        """Return the calibrations that a night neither has nor has frames for, each with what could stand in."""
        from proc_decam_dagster.survey.calibration_policy import CERTIFIED

        needed = [d for d in CERTIFIED if names.calib_collection("{subset}", d) in row.inputs]
        texts = []
        for dataset in needed:
            calibration = PROC_TYPES[dataset]
            bands = sorted(set(map(str, part["band"]))) if dataset == datasets.FLAT else [""]
            for band in bands:
                if self._can_make(night, calibration, band) or self._certified(night, dataset):
                    continue
                what = f"{dataset} {band}".strip()
                near = [n for n in self.by_night if n != night and self._can_make(n, calibration, band)]
                best = min(near, key=lambda n: (abs(days_apart(night, n)), n), default=None)
                texts.append(
                    f"no {what}; nearest {best} ({distance(night, best)}): --calib-from {dataset}={best}"
                    if best else f"no {what}, and no night of the table has one"
                )  # fmt: skip
        return texts

    def _can_make(self, night: str, calibration: Any, band: str) -> bool:
        bands = self.bands[night, calibration.obs_type]
        return band in bands if band else bool(bands)

    def _certified(self, night: str, dataset: str) -> bool:
        if names.calib_collection(night, dataset) not in self.chains:
            return False
        from proc_decam_dagster.repository.substitutes import certified_masters

        return bool(certified_masters(self.repository, night, dataset))

    def _recorded(self, coadd_subset: str, template_type: str) -> list[str]:
        from proc_decam_dagster.repository import coadd_nights

        return coadd_nights(self.repository, coadd_subset, template_type)

    def _has(self, chain: str, dataset: str) -> bool:
        return chain in self.chains and bool(self._refs(dataset, chain))

    def _refs(self, dataset: str, collection: str) -> list[Any]:
        from proc_decam_dagster.repository.queries import find_refs

        return find_refs(self.repository, dataset, collection)


def bytes_below(folder: Path) -> int:
    """Return the bytes of the files below a folder; none if there is none."""
    total, todo = 0, [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total
