"""The page of a night: its stages and CCDs, what failed and what to do, its figures and pictures."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.execution.causes import failures_of
from proc_decam_dagster.execution.step import RETRIES
from proc_decam_dagster.report.difference_pictures import difference_pictures
from proc_decam_dagster.report.figures import calibration_figures, difference_figures, visit_figures
from proc_decam_dagster.report.labels import FIGURES, LEVELS
from proc_decam_dagster.report.pages.rendering import data_uri, render
from proc_decam_dagster.report.pages.states import NONE, STATES, TODO, Stage, SurveyStates
from proc_decam_dagster.report.pictures import calibration_pictures, visit_pictures
from proc_decam_dagster.repository.exclusions import exclusions_of
from proc_decam_dagster.repository.staleness import find_stale
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

PICTURED_DIFFERENCES = 6
"""Chains of differences whose pictures a page has room for; the newest ones."""
SHOWN_DATA_IDS = 5
SCALE = 0.55
"""Units of a page's drawing a millimetre of the focal plane."""


def night_contents(repo: "Repository", states: SurveyStates, night: str) -> dict[str, Any]:
    """Return all that a night's page shows: stages, failures, exclusions, stale products, figures, pictures."""
    stages = {
        name: stage
        for name, stage in states.nights.get(night, {}).items()
        if stage.state is not NONE or name in PROC_TYPES
    }
    begun = {name: stage for name, stage in stages.items() if stage.state not in (NONE, TODO)}
    causes = {}
    for stage in begun.values():
        for cause in failures_of(repo, str(stage.chain), retries=RETRIES).causes if stage.causes else ():
            causes.setdefault(str(stage.chain), []).append(cause)
    pictures, missed = _pictures(_drawings(repo, night, begun))
    return {
        "night": night, "root": states.root, "stages": stages, "planes": {n: focal_plane(s) for n, s in begun.items()},
        "causes": causes, "exclusions": list(map(str, exclusions_of(repo, night))),
        "stale": find_stale(repo, f"{night}/*") if begun else [],
        "figures": {name: _figures(repo, night, stage) for name, stage in begun.items()},
        "pictures": pictures, "missed": missed, "shown_data_ids": SHOWN_DATA_IDS,
    }  # fmt: skip


def night_page(contents: dict[str, Any], *, made: str, before: str = "", after: str = "") -> str:
    """Return the page of a night; ``before`` and ``after`` are its neighbours that have pages too."""
    named = {name: list(told(found, "ADU" if name == "bias" else "")) for name, found in contents["figures"].items()}
    used = {state for stage in contents["stages"].values() for state in (stage.state, *stage.units.values())}
    return render(
        "night.html", **contents | {"figures": named}, states=[s for s in STATES if s in used], made=made,
        before=before, after=after, title=f"Night {contents['night']}", home="../index.html",
    )  # fmt: skip


def told(figures: dict[str, float], level: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield name, value and unit of figures as people read them; ``level`` is the unit of levels."""
    for name, value in figures.items():
        words, unit, places = FIGURES.get(name, (name.replace("_", " "), "", 3))
        unit = level if name in LEVELS else unit
        yield words, f"{value:,.{places}f}" if math.isfinite(value) else "not measured", unit


def focal_plane(stage: Stage) -> dict[str, Any]:
    """Return where each CCD of a stage stands in a drawing, as DECam's focal plane is drawn: the rows along y."""
    places = {d: DETECTORS[int(d)].center_mm for d in stage.units if int(d) in DETECTORS}
    xs, ys = [y for _, y in places.values()] or [0.0], [x for x, _ in places.values()] or [0.0]
    wide, tall = 63 * SCALE, 32 * SCALE
    left, top = min(xs) * SCALE - wide / 2 - 2, max(ys) * SCALE + tall / 2 + 2
    ccds = [
        {
            "name": d, "state": stage.units[d], "x": round(y * SCALE - wide / 2 - left, 1),
            "y": round(top - x * SCALE - tall / 2, 1),
        }
        for d, (x, y) in places.items()
    ]  # fmt: skip
    width, height = (max(xs) - min(xs)) * SCALE + wide + 4, (max(ys) - min(ys)) * SCALE + tall + 4
    return {"ccds": ccds, "width": round(width, 1), "height": round(height, 1), "wide": wide, "tall": tall}


def _figures(repo: "Repository", night: str, stage: Stage) -> dict[str, float]:
    chain = stage.chain
    if chain.proc_type in ("bias", "flat"):
        return calibration_figures(repo, night, chain.proc_type)
    if chain.proc_type == "drp":
        return visit_figures(repo, night)
    return difference_figures(repo, night, chain.coadd_subset, chain.template_type)


def _drawings(
    repo: "Repository", night: str, stages: dict[str, Stage]
) -> Iterator[tuple[str, Callable[[], Iterable[tuple[str, bytes]]]]]:
    """Yield a heading, and what yields name and picture under it."""
    for name in ("bias", "flat"):
        if name in stages:
            yield f"Master {name}", lambda n=name: calibration_pictures(repo, night, n)
    if "drp" in stages:
        yield "Calibrated exposures", lambda: visit_pictures(repo, night)
    differences = sorted(
        (s for s in stages.values() if s.chain.proc_type == "diff_drp"), key=lambda s: s.cell.ended, reverse=True
    )
    for stage in differences[:PICTURED_DIFFERENCES]:
        parts = (night, stage.chain.coadd_subset, stage.chain.template_type)
        yield f"Differences against {'/'.join(parts[1:])}", lambda p=parts: difference_pictures(repo, *p)


def _pictures(
    drawings: Iterable[tuple[str, Callable[[], Iterable[tuple[str, bytes]]]]],
) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Return the pictures under each heading as addresses, and what could not be drawn.

    A file that is damaged or gone takes away its picture, not the page that would tell of it.
    """
    pictures, missed = {}, []
    for heading, draw in drawings:
        shown = pictures[heading] = []
        try:
            for name, png in draw():
                shown.append((_caption(name), data_uri(png)))
        except (OSError, LookupError) as error:
            missed.append(f"{heading}: {type(error).__name__}: {error}")
    return {heading: shown for heading, shown in pictures.items() if shown}, missed


def _caption(name: str) -> str:
    words = {
        "focal_plane": "focal plane", "change": "change since the night before", "sky": "before the sky is subtracted",
        "residuals": "what the sky model leaves", "new_sources": "the best new sources: science, template, difference",
        "completeness": "fakes recovered, by magnitude",
    }  # fmt: skip
    kind = next((kind for kind in words if f"{name}_".startswith(f"{kind}_")), name)
    band = name.removeprefix(kind).lstrip("_")
    return f"{words.get(kind, kind)}{', ' + band if band else ''}"
