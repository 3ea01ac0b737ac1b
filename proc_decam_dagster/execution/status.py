"""A survey's nights and templates at a glance: how each chain stands, from the registry and the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsst.daf.butler import CollectionType, MissingDatasetTypeError

from proc_decam_dagster.execution.bps import unfinished
from proc_decam_dagster.execution.ledger import Ledger
from proc_decam_dagster.survey import proc_types
from proc_decam_dagster.survey.collections import STAMP, Chain, calib_collection, parse_chain, raw_collection
from proc_decam_dagster.survey.exposures import nights_of, rows_of_obs_type
from proc_decam_dagster.survey.nights import is_night

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

OK, PARTIAL, FAILED, RUNNING, UNFINISHED, MISSING, UNKNOWN, NONE = (
    "ok", "partial", "failed", "running", "unfinished", "missing", "unknown", "-"
)  # fmt: skip
"""How a chain stands. ``partial``: some of it failed, or steps are left to do. ``unfinished``: a run of it was
interrupted. ``missing``: there are raws, and nothing was run. ``unknown``: others ran it. ``-``: there are no raws."""


@dataclass
class Cell:
    """How a chain stands: ``good`` of ``total`` detectors (patches for a template) have come through all its steps.

    Attributes
    ----------
    units : `dict` [`str`, `bool`]
        Detector (patch) → whether it has; of a calibration, whether its master is certified.
    counts : `dict` [`str`, `dict`]
        Step → number of its quanta that succeeded, were skipped, failed, were blocked, the last time that it ended.
    ended : `str`
        When a step last ended, as the stamps in names of RUNs are written.
    """

    state: str = NONE
    good: int = 0
    total: int = 0
    detail: str = ""
    units: dict[str, bool] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    ended: str = ""

    def __str__(self) -> str:
        counts = f" {self.good}" if self.good == self.total else f" {self.good}/{self.total}"
        return self.state + (counts if self.total else "") + (f" {self.detail}" if self.detail else "")


@dataclass
class SurveyStatus:
    """The cells by row and column: ``nights`` × (bias, flat, drp, differences), ``templates`` by chain."""

    columns: list[str] = field(default_factory=list)
    nights: dict[str, dict[str, Cell]] = field(default_factory=dict)
    templates: dict[str, Cell] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return states and numbers as JSON-friendly values."""

        def told(cells: Mapping[str, Cell]) -> dict[str, Any]:
            return {
                name: {k: getattr(cell, k) for k in ("state", "good", "total", "detail")}
                for name, cell in cells.items()
            }

        return {
            "columns": self.columns, "nights": {night: told(cells) for night, cells in self.nights.items()},
            "templates": told(self.templates),
        }  # fmt: skip


@dataclass
class _Known:
    """What is known of one chain: its RUNs by step, those that the ledger tells of, when each step last ended (as the
    stamps in names of RUNs are written), and the newest word on each unit of each step; where there is none, whether
    we have begun any of the RUNs."""

    runs: dict[str, set[str]] = field(default_factory=dict)
    ours: bool = False
    told: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    units: dict[str, dict[tuple[str, str], bool]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def unwell(self) -> bool:
        """Whether a step failed in parts the last time that it ended."""
        return any(count["failed"] or count["blocked"] for count in self.counts.values())


def survey_status(repository: "Repository") -> SurveyStatus:
    """Return how all nights and templates of a survey stand, in a number of queries that does not grow with them."""
    butler, ledger = repository.butler(), Ledger.of(repository)
    collections = set(butler.collections.query("*", flatten_chains=False))
    runs = butler.collections.query("*", collection_types={CollectionType.RUN}, flatten_chains=False)
    known = _known(collections, runs, ledger.steps())
    running = {left.driver["chain"]: left.driver["step"] for left in ledger.running() if left.driver}
    workflows = unfinished(Path(repository.state_dir))
    running |= {workflow.chain: workflow.step for workflow in workflows if workflow.seems_alive}
    if untold := [what for what in known.values() if what.runs and not what.units]:
        ours = ledger.runs() | {workflow.run for workflow in workflows}
        ours |= {left.driver["run"] for left in ledger.left() if left.driver}
        for what in untold:
            what.ours = any(runs & ours for runs in what.runs.values())
    certified = {name: _certified(butler, name) for name in ("bias", "flat")}

    status = SurveyStatus(["bias", "flat", "drp"])
    chains = {parse_chain(name) for name in known}
    differences = sorted({(c.coadd_subset, c.template_type) for c in chains if c.proc_type == "diff_drp"})
    status.columns += [f"{subset}/{template}/diff_drp" for subset, template in differences]
    with_raws = _with_raws(repository, collections)
    for night in sorted({night for night, _ in with_raws} | {c.subset for c in chains if c.subset}):
        row = status.nights[night] = {}
        for name in ("bias", "flat", "drp"):
            cell = row[name] = _cell(Chain(name, night), known, running)
            if cell.state == NONE and (night, name) in with_raws:
                cell.state = MISSING
            if name in certified and cell.state not in (NONE, MISSING):
                _count_certified(cell, certified[name].get(calib_collection(night, name), set()))
        for subset, template in differences:
            row[f"{subset}/{template}/diff_drp"] = _cell(Chain("diff_drp", night, subset, template), known, running)
    for chain in sorted((c for c in chains if c.proc_type == "coadd"), key=str):
        status.templates[str(chain)] = _cell(chain, known, running)
    return status


def _known(collections: Iterable[str], runs: Iterable[str], steps: Iterable[Mapping[str, Any]]) -> dict[str, _Known]:
    known: dict[str, _Known] = {}
    for name in collections:
        try:
            known[str(parse_chain(name))] = _Known()
        except ValueError:
            continue
    for run in runs:
        parts = run.rsplit("/", 3)
        if len(parts) == 4 and parts[0] in known:
            known[parts[0]].runs.setdefault(parts[2], set()).add(run)
    for record in steps:  # the oldest first, so that the newest has the last word
        if (chain := known.get(record["chain"])) is None:
            continue
        standing, units = record["standing"], chain.units.setdefault(record["step"], {})
        chain.told |= set(standing["runs"])
        chain.ended[record["step"]] = datetime.fromtimestamp(record["ended"], UTC).strftime(STAMP)
        for how in ("good", "bad"):
            units |= {(dim, name): how == "good" for dim, names in standing[how].items() for name in names}
        chain.counts[record["step"]] = standing["counts"]
    return known


def _cell(chain: Chain, known: Mapping[str, _Known], running: Mapping[str, str]) -> Cell:
    what, name = known.get(str(chain)), str(chain)
    cell = _counted(what or _Known(), chain)
    cell.state, cell.detail = (RUNNING, running[name]) if name in running else _state(what, chain, cell)
    return cell


def _state(what: _Known | None, chain: Chain, cell: Cell) -> tuple[str, str]:
    """Return how a chain that is not running stands, and more about it."""
    if what is None or not (what.runs or what.units):
        return NONE, ""
    if not what.units:
        return (UNFINISHED if what.ours else UNKNOWN), ""
    steps = proc_types.proc_type(chain.proc_type).steps
    left = [step for step in steps if step not in what.units]
    for step, runs in what.runs.items():  # one that came after the last that ended was cut off
        if any(run.rsplit("/", 1)[-1] > what.ended.get(step, "") for run in runs - what.told):
            return UNFINISHED, ""
    if cell.total and not cell.good:
        return FAILED, ""
    if left:
        return PARTIAL, f"{left[0]} to do"
    return PARTIAL if cell.good < cell.total or what.unwell else OK, ""


def _counted(what: _Known, chain: Chain) -> Cell:
    """Return a cell with what is known of a chain's detectors (patches) and steps."""
    dimension = "patch" if chain.proc_type == "coadd" else "detector"
    well: dict[str, bool] = {}
    for units in what.units.values():
        for (kind, name), good in units.items():
            if kind == dimension:
                well[name] = well.get(name, True) and good
    ended = max(what.ended.values(), default="")
    return Cell(good=sum(well.values()), total=len(well), units=well, counts=what.counts, ended=ended)


def _count_certified(cell: Cell, certified: set[int]) -> None:
    """Let a calibration's cell count what is certified: nothing else is of use."""
    if not cell.detail:  # all steps have ended
        cell.units = dict.fromkeys(cell.units, False)
    cell.units = cell.units | {str(detector): True for detector in sorted(certified)}
    cell.good, cell.total = len(certified), len(cell.units)
    if cell.state == OK and cell.good < cell.total:
        cell.state = PARTIAL if cell.good else FAILED
        cell.detail = "certified"


def _certified(butler: Any, dataset: str) -> dict[str, set[int]]:
    """Return the detectors that are certified, by collection."""
    found: dict[str, set[int]] = {}
    try:
        for a in butler.registry.queryDatasetAssociations(
            dataset, collections=calib_collection("*", dataset), collectionTypes={CollectionType.CALIBRATION},
            flattenChains=False,
        ):  # fmt: skip
            found.setdefault(a.collection, set()).add(a.ref.dataId["detector"])
    except MissingDatasetTypeError:
        pass
    return found


def _with_raws(repository: "Repository", collections: set[str]) -> set[tuple[str, str]]:
    """Return (night, proc type) of all raws that the survey has, ingested or known from its exposure table."""
    rows = [row for row in proc_types.PROC_TYPES.values() if row.obs_type]
    nights = {name.split("/")[0] for name in collections if is_night(name.split("/")[0])}
    found = {(n, row.name) for n in nights for row in rows if raw_collection(n, row.name) in collections}
    table = repository.exposures()
    if table is not None:
        for row in rows:
            of_type = rows_of_obs_type(table, row.obs_type)
            found |= {(night, row.name) for night in nights_of(of_type)}
    return found
