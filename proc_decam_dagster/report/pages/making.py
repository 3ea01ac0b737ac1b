"""Pages made and kept up to date: a folder with ``index.html`` for the survey, and ``nights/{night}.html``.

Beside each night's page stand its figures as JSON: the survey's page is made from these, not from a thousand nights'
products.
"""

import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.report.pages.night import night_contents, night_page
from proc_decam_dagster.report.pages.states import SurveyStates, survey_states
from proc_decam_dagster.report.pages.survey import survey_page
from proc_decam_dagster.repository.settings import write_whole
from proc_decam_dagster.survey.collections import STAMP
from proc_decam_dagster.survey.nights import is_night

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

FOLDER = "pages"
"""Where pages are put in a repository's own folder, if nowhere else."""
NIGHTS = "nights"
TIME = "%Y-%m-%d %H:%M UTC"


@dataclass
class Made:
    """What was made: the survey's page, and those of some nights, each with its figures, stage by stage."""

    index: Path
    nights: dict[str, Path] = field(default_factory=dict)
    figures: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    known: int = 0


def make_pages(
    repo: "Repository", folder: Path | None = None, nights: Collection[str] | None = None, *,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Made:  # fmt: skip
    """Make pages of nights anew, and the survey's page, each file whole or not at all.

    Parameters
    ----------
    folder : `pathlib.Path`, optional
        Where; in the repository's own folder if not given.
    nights : collection of `str`, optional
        Which nights; those that have changed since their page was made, or have none, if not given.
    progress : callable, optional
        Told how many of how many nights are done, and the night.
    """
    folder = Path(folder or Path(repo.state_dir) / FOLDER).absolute()
    now = datetime.now(UTC)  # before anything is looked at: what changes meanwhile is shown the next time
    states = survey_states(repo)
    chosen = sorted(nights) if nights is not None else [n for n in states.nights if _changed(folder, states, n)]
    with_pages = sorted({*_with_pages(folder), *chosen})
    made = Made(folder / "index.html", known=len(states.nights))
    for number, night in enumerate(chosen):
        progress(number, len(chosen), night)
        contents = night_contents(repo, states, night)
        place = with_pages.index(night)
        before, after = (with_pages[i] if 0 <= i < len(with_pages) else "" for i in (place - 1, place + 1))
        page = folder / NIGHTS / f"{night}.html"
        write_whole(page, night_page(contents, made=now.strftime(TIME), before=before, after=after))
        kept = {"night": night, "made": now.strftime(STAMP), "figures": _finite(contents["figures"])}
        write_whole(page.with_suffix(".json"), json.dumps(kept))
        made.nights[night], made.figures[night] = page, contents["figures"]
    progress(len(chosen), len(chosen), "")
    figures = {night: _read(folder, night).get("figures", {}).get("drp", {}) for night in with_pages}
    figures = {n: {k: math.nan if v is None else v for k, v in f.items()} for n, f in figures.items()}
    write_whole(made.index, survey_page(states, figures, made=now.strftime(TIME), name=Path(repo.root).name))
    return made


def _changed(folder: Path, states: SurveyStates, night: str) -> bool:
    """Whether a step of a night has ended since its page was made; a night of which nothing was run needs no page."""
    changed = states.changed(night)
    return bool(changed) and changed > _read(folder, night).get("made", "")


def _with_pages(folder: Path) -> list[str]:
    return [page.stem for page in (folder / NIGHTS).glob("*.html") if is_night(page.stem)]


def _read(folder: Path, night: str) -> dict[str, Any]:
    """Return what is kept beside a night's page; nothing where it cannot be read: the page is then made again."""
    try:
        return json.loads((folder / NIGHTS / f"{night}.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _finite(figures: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Return figures as JSON has them: `None` for what was not measured."""
    return {s: {k: v if math.isfinite(v) else None for k, v in f.items()} for s, f in figures.items()}
