"""What changed between two runs: software, configuration, what was processed, and the figures of what came out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import vstack

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.report.figures import VISIT_FIGURES
from proc_decam_dagster.report.images import read_plane
from proc_decam_dagster.repository.chains import runs_of
from proc_decam_dagster.repository.presence import has_collection
from proc_decam_dagster.repository.queries import find_refs, path_of
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import is_processing_chain

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

PACKAGES, CONFIG, METADATA = "packages", "_config", "_metadata"
COUNTED = (
    datasets.CALEXP, datasets.named(datasets.DIRECT_WARP), datasets.named(datasets.COADD),
    datasets.named(datasets.DIFFERENCE),
)  # fmt: skip
"""Products of which the number is compared."""


@dataclass
class Comparison:
    """Differences between two searches of collections.

    Attributes
    ----------
    first, second : `list` [`str`]
        The collections.
    software : `dict`
        Package → its two versions, where both had imported it and they differ.
    configuration : `dict`
        ``label:field`` → its two values, where they differ.
    inputs : `dict`
        Task → the data ids that only the first processed, and those that only the second did.
    figures : `dict`
        Figure → its two values; NaN where there is none.
    """

    first: list[str]
    second: list[str]
    software: dict[str, tuple[str, str]] = field(default_factory=dict)
    configuration: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    inputs: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-friendly values; what is not there is `None`."""
        plain = asdict(self)
        plain["figures"] = {k: [None if math.isnan(v) else v for v in values] for k, values in plain["figures"].items()}
        return plain


def two_newest(repo: "Repository", chain: str) -> tuple[list[str], list[str]]:
    """Return a chain's last but newest RUN of each step, and its newest, of the steps that ran twice.

    Raises
    ------
    SurveyError
        If no step of the chain ran twice, or it is no processing chain.
    """
    if not is_processing_chain(chain) or not has_collection(repo.butler(), chain):
        raise SurveyError(f"{chain} is no processing chain", fix=f"`proc-decam status {repo.root}` shows them")
    by_step: dict[str, list[str]] = {}
    for run in runs_of(repo.butler(), chain):
        by_step.setdefault(run.rpartition("/")[0], []).append(run)
    twice = [runs for runs in by_step.values() if len(runs) > 1]
    if not twice:
        raise SurveyError(f"no step of {chain} ran twice", "two runs to compare", "name two collections")
    return [runs[1] for runs in twice], [runs[0] for runs in twice]


def compare(repo: "Repository", first: Sequence[str], second: Sequence[str]) -> Comparison:
    """Compare what two searches of collections find: RUNs, or whole chains.

    Raises
    ------
    SurveyError
        If a collection does not exist.
    """
    butler = repo.butler()
    for name in (*first, *second):
        if not has_collection(butler, name):
            raise SurveyError(
                f"collection {name} does not exist", fix=f"`butler query-collections {repo.root}` lists all"
            )
    sides = [_Side(repo, list(first)), _Side(repo, list(second))]
    software, configuration = ([getattr(side, name)() for side in sides] for name in ("software", "configuration"))
    # A task that one side alone ran has no configuration to compare, and a package that one side alone had imported
    # no version: what a process imports depends on what else it did.
    software = [{name: side[name] for name in software[0].keys() & software[1].keys()} for side in software]
    both = configuration[0].keys() & configuration[1].keys()
    flat = [{f"{t}:{k}": v for t in both for k, v in side[t].items()} for side in configuration]
    quanta = [side.quanta() for side in sides]
    figures = [side.figures() for side in sides]
    return Comparison(
        list(first), list(second), _different(*software), _different(*flat),
        {
            task: (sorted(one - two), sorted(two - one))
            for task in sorted(quanta[0].keys() | quanta[1].keys())
            if (one := quanta[0].get(task, set())) != (two := quanta[1].get(task, set()))
        },
        {name: tuple(side.get(name, math.nan) for side in figures) for name in {**figures[0], **figures[1]}},
    )  # fmt: skip


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        key: (first.get(key), second.get(key))
        for key in sorted(first.keys() | second.keys()) if first.get(key) != second.get(key)
    }  # fmt: skip


class _Side:
    """What one search of collections finds."""

    def __init__(self, repo: "Repository", collections: list[str]) -> None:
        self.repo, self.collections = repo, collections
        self.butler = repo.butler()
        info = self.butler.collections.query_info(collections, include_summary=True, flatten_chains=True)
        self.types = {name for i in info for name in i.dataset_types or ()}

    def refs(self, name: str) -> list[Any]:
        return find_refs(self.repo, name, self.collections) if name in self.types else []

    def software(self) -> dict[str, str]:
        """Return package → version."""
        return {name: version for ref in self.refs(PACKAGES) for name, version in self.butler.get(ref).items()}

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return task label → its configuration as dotted fields."""
        found = {}
        for name in self.types:
            if name.endswith(CONFIG):
                for ref in self.refs(name):
                    found[name.removesuffix(CONFIG)] = dict(_flat(self.butler.get(ref).toDict()))
        return found

    def quanta(self) -> dict[str, set[str]]:
        """Return task label → the data ids that succeeded."""
        return {
            name.removesuffix(METADATA): {_words(ref) for ref in self.refs(name)}
            for name in self.types if name.endswith(METADATA)
        }  # fmt: skip

    def figures(self) -> dict[str, float]:
        """Return the numbers that people look at."""
        found: dict[str, float] = {name: len(refs) for name in COUNTED if (refs := self.refs(name))}
        for name in (datasets.BIAS, datasets.FLAT):
            levels = [float(np.nanmedian(read_plane(path_of(self.repo, ref))[::8, ::8])) for ref in self._own(name)]
            if levels:
                found |= {f"{name}: masters": len(levels), f"{name}: median level": float(np.median(levels))}
        summaries = [self.butler.get(ref) for ref in self.refs(datasets.VISIT_SUMMARY)]
        if summaries:
            table = vstack(summaries, metadata_conflicts="silent")
            for figure, column in VISIT_FIGURES.items():
                if column in table.colnames:
                    found[figure] = float(np.nanmedian(np.asarray(table[column], float)))
        tables = [self.butler.get(ref) for ref in self.refs(datasets.DIA_SOURCE_TABLE_VISIT)]
        if tables:
            found["dia_sources"] = sum(len(t) for t in tables)
        return found

    def _own(self, name: str) -> list[Any]:
        """Return masters made in these collections, not those certified for them."""
        runs = [r for c in self.collections for r in self._runs(c)]
        return find_refs(self.repo, name, runs) if runs and name in self.types else []

    def _runs(self, collection: str) -> list[str]:
        return runs_of(self.butler, collection) if is_processing_chain(collection) else [collection]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _words(ref: Any) -> str:
    return " ".join(f"{k}={v}" for k, v in ref.dataId.required.items() if k not in ("instrument", "skymap"))
