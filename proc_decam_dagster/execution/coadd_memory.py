"""The memory of coadds: warps counted per patch, memory predicted and asked for, or a patch's warps limited to fit.

A coadd holds a region of all its warps at once, so that its memory grows with their number; what it was measured to
need is the engine's (`Engine.coadd_memory_mb`), which has none where its coadds stream through bounded memory.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.attempts import QuantumName, data_id_key
from proc_decam_dagster.survey.collections import coadd_inputs_collection

if TYPE_CHECKING:
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

    from proc_decam_dagster.repository import Repository

log = logging.getLogger(__name__)

MemoryModel = Sequence[tuple[int, float]]
"""Number of warps up to which a coadd of one patch needs a memory (MB), ascending."""
PATCH = ("skymap", "tract", "patch", "band")


def predict_memory(warps: int, model: MemoryModel) -> float:
    """Return the memory (MB) of the coadd of a patch.

    Beyond what was measured it is taken to grow in proportion to the number of warps.
    """
    for most, megabytes in model:
        if warps <= most:
            return megabytes
    most, megabytes = model[-1]
    return megabytes * warps / most


def most_warps(memory_mb: float, model: MemoryModel) -> int:
    """Return how many warps fit into a memory (MB); 0 if not even the fewest that were measured do."""
    fitting = [most for most, megabytes in model if megabytes <= memory_mb]
    if len(fitting) < len(model):
        return fitting[-1] if fitting else 0
    most, megabytes = model[-1]
    return int(most * memory_mb / megabytes)


def coadd_requests(
    graph: "PredictedQuantumGraph", model: MemoryModel, limit_mb: float = float("inf")
) -> dict[QuantumName, float]:
    """Return the memory (MB) to ask for on behalf of each quantum of a graph that adds warps.

    Those are the quanta of tasks of a patch that read datasets of its visits. A prediction above the limit is named
    in the log, and cut: the quantum may fail, and be told so.

    Parameters
    ----------
    graph : `~lsst.pipe.base.quantum_graph.PredictedQuantumGraph`
        A step's graph, whole.
    model : `MemoryModel`
        The engine's; nothing is asked for if it is empty.
    limit_mb : `float`, optional
        The most that can be asked for.
    """
    if not model:
        return {}
    requests, cut = {}, []
    whole = graph.bipartite_xgraph
    for label, quanta in graph.quanta_by_task.items():
        dimensions = graph.pipeline_graph.tasks[label].dimensions
        if "patch" not in dimensions or "visit" in dimensions:
            continue
        for data_id, quantum in quanta.items():
            inputs = (whole.nodes[dataset]["data_id"] for dataset in whole.predecessors(quantum))
            visits = {d["visit"] for d in inputs if {"visit", "patch"} <= d.dimensions.required}
            if visits:
                predicted = predict_memory(len(visits), model)
                if predicted > limit_mb:
                    cut.append(f"tract {data_id['tract']} patch {data_id['patch']}: {len(visits)} warps")
                requests[label, data_id_key(dict(data_id.required))] = min(predicted, limit_mb)
    if cut:
        log.warning(
            "%d coadds need more than the %.0f MB that there are (%s); `--max-warps %d` makes them fit",
            len(cut), limit_mb, "; ".join(sorted(cut)[:5]), most_warps(limit_mb, model),
        )  # fmt: skip
    return requests


@dataclass(frozen=True)
class PatchWarps:
    """The warps of one patch and band.

    Attributes
    ----------
    skymap, tract, patch, band
        Which patch.
    visits : `tuple` [`int`, …]
        All visits that have a warp of it, ascending.
    used : `tuple` [`int`, …]
        Those that stay in the coadd's inputs.
    """

    skymap: str
    tract: int
    patch: int
    band: str
    visits: tuple[int, ...]
    used: tuple[int, ...]


def spread(visits: Sequence[int], number: int) -> tuple[int, ...]:
    """Return so many of some visits, evenly over their order: over the whole time that they were taken in."""
    if len(visits) <= number:
        return tuple(visits)
    return tuple(visits[i] for i in np.unique(np.linspace(0, len(visits) - 1, number).round().astype(int)))


def limit_warps(
    repository: "Repository", coadd_subset: str, template_type: str, max_warps: int | None = None
) -> list[PatchWarps]:
    """Count the warps of a coadd's inputs by patch, take those beyond a number out, and record the choice.

    The record, with the memory predicted, is `record_path`; it is written without a limit too. Warps are taken out of
    the TAGGED inputs alone, which `associate_coadd_inputs` fills again.

    Parameters
    ----------
    max_warps : `int`, optional
        The most that a patch keeps in a band; all if not given.

    Raises
    ------
    SurveyError
        If `max_warps` is less than 1.
    """
    if max_warps is not None and max_warps < 1:
        raise SurveyError(f"at most {max_warps} warps a patch make no coadd", "1 or more", "correct --max-warps")
    tag = coadd_inputs_collection(coadd_subset, template_type)
    butler = repository.butler(writeable=True)
    refs = _warps(butler, tag)
    patches = []
    for key, by_visit in sorted(refs.items()):
        visits = tuple(sorted(by_visit))
        patches.append(PatchWarps(*key, visits, spread(visits, max_warps or len(visits))))
    surplus = [
        ref
        for p in patches
        for visit in set(p.visits) - set(p.used)
        for ref in refs[p.skymap, p.tract, p.patch, p.band][visit]
    ]
    with repository.lock(tag, wait_seconds=60):
        butler.registry.disassociate(tag, surplus)
        _record(patches, repository.engine.coadd_memory_mb, record_path(repository, coadd_subset, template_type))
    if surplus:
        fewer = sum(len(p.used) < len(p.visits) for p in patches)
        log.warning("%s: %d of %d patches keep %d warps each", tag, fewer, len(patches), max_warps)
    return patches


def record_path(repository: "Repository", coadd_subset: str, template_type: str) -> Path:
    """Return where the warps of a coadd's patches are recorded."""
    return repository.state_dir / "coadd_warps" / f"{coadd_subset}__{template_type}.ecsv"


def _warps(butler: Any, tag: str) -> Mapping[tuple[str, int, int, str], dict[int, list[Any]]]:
    """Return the refs of all warps in a collection by patch and visit, of whatever kind the warps are."""
    found: dict[tuple[str, int, int, str], dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for name in butler.collections.get_info(tag, include_summary=True).dataset_types or ():
        if {"visit", "patch"} <= set(butler.get_dataset_type(name).dimensions.required):
            for ref in butler.query_datasets(
                name, [tag], find_first=False, with_dimension_records=True, limit=None, explain=False
            ):
                found[tuple(ref.dataId[d] for d in PATCH)][ref.dataId["visit"]].append(ref)
    return found


def _record(patches: Sequence[PatchWarps], model: MemoryModel, path: Path) -> None:
    rows = [
        (
            p.skymap, p.tract, p.patch, p.band, len(p.visits), len(p.used),
            predict_memory(len(p.used), model) if model else float("nan"),
            " ".join(str(v) for v in p.visits if v not in set(p.used)),
        )
        for p in patches
    ]  # fmt: skip
    names = (*PATCH, "warps", "used", "memory_mb", "left_out_visits")
    path.parent.mkdir(parents=True, exist_ok=True)
    (Table(rows=rows, names=names) if rows else Table(names=names)).write(path, overwrite=True)
