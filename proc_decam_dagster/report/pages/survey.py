"""The page of a survey: nights × stages × CCDs, the figures of its nights over time, and what failed."""

import math
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from proc_decam_dagster.report.labels import FIGURES
from proc_decam_dagster.report.pages.rendering import render, without_secrets
from proc_decam_dagster.report.pages.states import NONE, OK, STATES, TODO, Stage, State, SurveyStates, worst

CHARTS = ("seeing_arcsec", "depth_5sigma", "zero_point", "zero_point_scatter", "astrometric_rms_mas")
"""Figures of a night that are drawn over time."""
COLUMNS_OF_DIFFERENCES = 4
"""Up to so many chains of differences have a column each; more share one, which shows the worst of a night."""
SHOWN_COMMANDS = 3
WIDTH, HEIGHT = 280, 70
"""Size of a chart."""


def survey_page(states: SurveyStates, figures: Mapping[str, Mapping[str, float]], *, made: str, name: str) -> str:
    """Return the page of a survey.

    Parameters
    ----------
    states : `SurveyStates`
        How it stands.
    figures : mapping
        Night → figures, of the nights that have a page.
    made, name : `str`
        When it was made, and what the survey is called.
    """
    own = [c for c in states.columns if c.endswith("diff_drp")]
    shared = len(own) > COLUMNS_OF_DIFFERENCES
    columns = [c for c in states.columns if c not in own] + (["differences"] if shared else own)
    rows = []
    for night in sorted(states.nights, reverse=True):
        stages = states.nights[night]
        cells = [_cell(stages[c]) for c in columns if c != "differences"]
        if shared:
            cells.append(_together([stages[c] for c in own]))
        rows.append({"night": night, "cells": cells, "page": night in figures, "figures": figures.get(night, {})})
    tally = {column: _tally(cells) for column, cells in zip(columns, zip(*(r["cells"] for r in rows)))}
    shown = [stage for stages in (*states.nights.values(), states.templates) for stage in stages.values()]
    used = {state for stage in shown for state in (stage.state, *stage.units.values())}
    return render(
        "survey.html", title=f"Survey {name}", root=states.root, columns=columns, rows=rows, tally=tally, made=made,
        templates=[(chain, _cell(stage)) for chain, stage in states.templates.items()],
        charts=[chart for chart in (_chart(c, figures) for c in CHARTS) if chart], causes=_causes(states),
        states=[s for s in STATES if s in used], detectors=states.detectors, home="",
    )  # fmt: skip


def _cell(stage: Stage) -> dict[str, Any]:
    """Return what a cell of the table shows, and what a click on it tells."""
    return {
        "chain": str(stage.chain), "state": stage.state, "good": stage.good, "total": stage.total,
        "strip": strip(list(stage.units.values())), "causes": stage.causes, "advice": stage.advice,
        "detail": stage.cell.detail, "counts": _counts(stage),
    }  # fmt: skip


def _counts(stage: Stage) -> str:
    """Return in words how the CCDs of a stage stand, where they differ."""
    if stage.state in (NONE, TODO):
        return ""
    order = {s: i for i, s in enumerate(STATES)}
    runs = groupby(sorted(stage.units.items(), key=lambda item: order[item[1]]), key=lambda item: item[1])
    named = {state: [name for name, _ in group] for state, group in runs}
    texts = [
        f"{len(names)} {state.name}" + (f": {' '.join(names)}" if state not in (OK, NONE) and len(names) < 20 else "")
        for state, names in named.items()
    ]
    return "; ".join(texts)


def _together(stages: list[Stage]) -> dict[str, Any]:
    """Return one cell for several chains of a night, of which those count that were begun."""
    begun = [s for s in stages if s.state is not NONE]
    bad = [s for s in begun if s.state is not OK]
    return {
        "chain": f"{len(begun)} chains of differences", "state": worst(s.state for s in begun),
        "good": len(begun) - len(bad), "total": len(begun), "strip": strip([s.state for s in begun]),
        "causes": sorted({c for s in bad for c in s.causes}), "detail": "",
        "advice": next((s.advice for s in bad if s.advice), ""),
        "counts": "; ".join(f"{s.chain}: {s.state.name}" for s in bad[:10]),
    }  # fmt: skip


def strip(states: list[State]) -> str:
    """Return the CCDs of a cell as a CSS gradient: bands of colour, neighbours of one state together.

    Empty where all are of one state.
    """
    bands, place = [], 0
    for name, group in groupby(s.name for s in states):
        start, place = place, place + len(list(group))
        bands.append(f"var(--{name}) {100 * start / len(states):.3g}% {100 * place / len(states):.3g}%")
    return f"linear-gradient(90deg,{','.join(bands)})" if len(bands) > 1 else ""


def _tally(cells: tuple[dict[str, Any], ...]) -> list[tuple[State, int]]:
    """Return how many nights of a column stand how."""
    names = [cell["state"] for cell in cells]
    return [(state, names.count(state)) for state in STATES if state is not NONE and state in names]


def _causes(states: SurveyStates) -> list[dict[str, Any]]:
    """Return the causes of failures with their commands, chain by chain."""
    found = []
    for cause in states.causes:
        by_chain = {
            chain: [without_secrets(c) for c in cause.commands if f" {chain} " in c][:SHOWN_COMMANDS]
            for chain in dict.fromkeys(q.chain for q in cause.quanta)
        }
        others = [c for c in cause.commands if not any(f" {chain} " in c for chain in by_chain)]
        found.append(
            {
                "title": f"{cause.exception}: {without_secrets(cause.pattern)}", "kind": cause.kind,
                "example": without_secrets(cause.example[:500]), "tasks": ", ".join(cause.tasks),
                "number": len(cause.quanta), "chains": by_chain,
                "advice": [without_secrets(c) for c in others[:SHOWN_COMMANDS]],
            }
        )  # fmt: skip
    return found


def _chart(name: str, figures: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    """Return one figure of the nights as points of a drawing; `None` where it was never measured."""
    found = [(n, f[name]) for n, f in sorted(figures.items()) if math.isfinite(f.get(name) or math.nan)]
    if not found:
        return None
    low, high = min(v for _, v in found), max(v for _, v in found)
    span, step = (high - low) or abs(high) or 1.0, (WIDTH - 20) / max(len(found) - 1, 1)
    words, unit, places = FIGURES[name]
    points = [
        {
            "night": night, "x": round(10 + i * step, 1), "value": f"{value:.{places}f} {unit}",
            "y": round(HEIGHT - 12 - (value - low) / span * (HEIGHT - 24), 1),
        }
        for i, (night, value) in enumerate(found)
    ]  # fmt: skip
    return {
        "name": words, "unit": unit, "low": f"{low:.{places}f}", "high": f"{high:.{places}f}", "points": points,
        "first": found[0][0], "last": found[-1][0], "width": WIDTH, "height": HEIGHT,
    }  # fmt: skip
