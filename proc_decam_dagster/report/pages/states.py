"""How each night × stage × CCD stands: what the registry and the ledger tell, with causes and what to do next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.execution import status as standing
from proc_decam_dagster.execution.attempts import FailedQuantum
from proc_decam_dagster.execution.causes import Cause, failures_of
from proc_decam_dagster.execution.standing import unit_of
from proc_decam_dagster.execution.status import Cell, SurveyStatus, survey_status
from proc_decam_dagster.execution.step import RETRIES
from proc_decam_dagster.repository.exclusions import exclusions
from proc_decam_dagster.survey.collections import Chain, parse_chain
from proc_decam_dagster.survey.exclusions import Exclusions
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


class State(NamedTuple):
    """How something stands, as a page shows it: by colour, by a sign, and in words."""

    name: str
    sign: str
    words: str


OK, WARNED, FAILED, BLOCKED, EXCLUDED, BEGUN, RUNNING, TODO, UNKNOWN, NONE = STATES = (
    State("ok", "✓", "succeeded"),
    State("warned", "!", "in part: some of it failed"),
    State("failed", "✗", "failed"),
    State("blocked", "⊘", "blocked by another failure"),
    State("excluded", "–", "left out by the list of exclusions"),
    State("begun", "◐", "begun: steps are left to do"),
    State("running", "▶", "running"),
    State("todo", "○", "not started"),
    State("unknown", "?", "made by others, of which the ledger has nothing"),
    State("none", "·", "no raws"),
)
_WORST = (RUNNING, FAILED, BLOCKED, WARNED, BEGUN, UNKNOWN, TODO, OK, EXCLUDED, NONE)


@dataclass
class Stage:
    """How one chain of a night, or a template, stands.

    Attributes
    ----------
    state : `State`
        Of the whole.
    good, total : `int`
        CCDs (patches) that are through all steps, and how many there are.
    units : `dict` [`str`, `State`]
        Of each CCD of the survey, in order (patches of a template).
    causes : `list` [`int`]
        Places in `SurveyStates.causes` of what failed.
    advice : `str`
        What to do next; empty if nothing.
    cell : `Cell`
        What `proc-decam status` shows.
    """

    chain: Chain
    state: State
    good: int
    total: int
    units: dict[str, State]
    causes: list[int]
    advice: str
    cell: Cell


@dataclass
class SurveyStates:
    """Nights × stages × CCDs of a survey; ``columns`` are the stages of a night, in order."""

    root: str
    columns: list[str] = field(default_factory=list)
    detectors: list[str] = field(default_factory=list)
    nights: dict[str, dict[str, Stage]] = field(default_factory=dict)
    templates: dict[str, Stage] = field(default_factory=dict)
    causes: list[Cause] = field(default_factory=list)

    def changed(self, night: str) -> str:
        """Return when a step of a night last ended, as the stamps in names of RUNs are written; empty if none did."""
        return max((stage.cell.ended for stage in self.nights[night].values()), default="")


def survey_states(repo: "Repository") -> SurveyStates:
    """Return how all of a survey stands, in a number of queries that does not grow with its nights."""
    status, listed = survey_status(repo), exclusions(repo)
    causes = failures_of(repo, retries=RETRIES).causes
    failed: dict[str, list[tuple[int, FailedQuantum]]] = {}
    for number, cause in enumerate(causes):
        for quantum in cause.quanta:
            failed.setdefault(quantum.chain, []).append((number, quantum))
    frames = _frames(repo)
    states = SurveyStates(str(repo.root), list(status.columns), _detectors(status), causes=causes)
    for night, cells in status.nights.items():
        states.nights[night] = {
            column: _stage(states, parse_chain(f"{night}/{column}"), cell, failed, listed, frames)
            for column, cell in cells.items()
        }
    for name, cell in status.templates.items():
        states.templates[name] = _stage(states, parse_chain(name), cell, failed, Exclusions(), frames)
    return states


def worst(states: Iterable[State]) -> State:
    """Return the state of several together: the one that asks most for attention."""
    return min(states, key=_WORST.index, default=NONE)


def _stage(
    survey: SurveyStates, chain: Chain, cell: Cell, failed: Mapping[str, list[tuple[int, FailedQuantum]]],
    listed: Exclusions, frames: Mapping[tuple[str, str], int],
) -> Stage:  # fmt: skip
    mine = failed.get(str(chain), [])
    number = frames.get((chain.subset, "drp" if chain.proc_type == "diff_drp" else chain.proc_type), 0)
    spoilt = _spoilt(quantum for _, quantum in mine)
    names = survey.detectors if chain.subset else list(cell.units)
    units = {name: _unit(name, cell, spoilt, number, bool(mine)) for name in names}
    if chain.subset and cell.state != standing.NONE:
        # -1: an entry that names exposures leaves out no CCD of the whole night.
        units |= {d: EXCLUDED for d in names if listed.entry(-1, int(d), chain.subset)}
    state = _whole(cell, units)
    return Stage(
        chain, state, cell.good, cell.total, units, sorted({n for n, _ in mine}),
        _advice(survey.root, chain, state, cell, bool(mine)), cell,
    )  # fmt: skip


def _unit(name: str, cell: Cell, spoilt: Mapping[str, set[int] | None], frames: int, failures: bool) -> State:
    """Return the state of one CCD (patch)."""
    if cell.state in (standing.NONE, standing.MISSING, standing.UNKNOWN):
        return {standing.NONE: NONE, standing.MISSING: TODO, standing.UNKNOWN: UNKNOWN}[cell.state]
    if name in spoilt:
        lost = spoilt[name]
        return WARNED if cell.units.get(name) or (lost is not None and len(lost) < frames) else FAILED
    if name not in cell.units:
        return TODO
    if cell.state == standing.RUNNING:
        return RUNNING
    if cell.units[name]:
        return BEGUN if cell.state == standing.UNFINISHED or cell.detail.endswith("to do") else OK
    return BLOCKED if failures else FAILED


def _whole(cell: Cell, units: Mapping[str, State]) -> State:
    """Return the state of a chain as a whole."""
    simple = {
        standing.NONE: NONE, standing.MISSING: TODO, standing.RUNNING: RUNNING, standing.UNKNOWN: UNKNOWN,
        standing.UNFINISHED: BEGUN, standing.FAILED: FAILED, standing.OK: OK,
    }  # fmt: skip
    if units and set(units.values()) == {EXCLUDED}:
        return EXCLUDED
    if cell.state != standing.PARTIAL:
        return simple[cell.state]
    well = sum(state in (OK, WARNED, BEGUN) for state in units.values())
    if not well:
        return worst(units.values())
    bad = any(state in (FAILED, BLOCKED, WARNED) for state in units.values())
    return WARNED if bad or not cell.detail else BEGUN


def _advice(root: str, chain: Chain, state: State, cell: Cell, failures: bool) -> str:
    """Return what to do next where no cause of a failure says it."""
    words = ["proc-decam night", root, chain.subset, "--proc-type", chain.proc_type]
    if not chain.subset:
        words = ["proc-decam pipeline", root, chain.proc_type, chain.coadd_subset]
    if chain.coadd_subset:
        words += ["--coadd-subset", chain.coadd_subset, "--template-type", chain.template_type]
    if state in (TODO, BEGUN) or (state == FAILED and not failures):
        return " ".join(words)
    if state == UNKNOWN:
        return f"proc-decam failures {root} {chain} --rebuild"
    if cell.detail == "certified" and not failures:
        return f"proc-decam calibrations show {root} {chain.subset}"
    return ""


def _spoilt(quanta: Iterable[FailedQuantum]) -> dict[str, set[int] | None]:
    """Return CCD (patch) → the frames of it that failed; `None` where what failed is made of all of them."""
    found: dict[str, set[int] | None] = {}
    for quantum in quanta:
        unit = unit_of(quantum.data_id)
        if unit is None or unit[0] not in ("detector", "patch"):
            continue
        frame = quantum.data_id.get("exposure", quantum.data_id.get("visit"))
        before = found.get(unit[1], set())
        found[unit[1]] = None if frame is None or before is None else before | {frame}
    return found


def _frames(repo: "Repository") -> dict[tuple[str, str], int]:
    """Return (night, proc type) → number of exposures, from the exposure table."""
    table, found = repo.exposures(), {}
    if table is not None:
        names = {row.obs_type: row.name for row in PROC_TYPES.values() if row.obs_type}
        for night, kind in zip(table["night"], table["obs_type"]):
            if kind in names:
                key = (str(night), names[kind])
                found[key] = found.get(key, 0) + 1
    return found


def _detectors(status: SurveyStatus) -> list[str]:
    """Return the CCDs that any chain of the survey has, else all that there are."""
    found = {name for cells in status.nights.values() for cell in cells.values() for name in cell.units}
    return sorted(found or map(str, DETECTORS), key=int)
