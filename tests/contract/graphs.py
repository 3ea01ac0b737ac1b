"""Graphs of our pipelines' steps as the middleware builds them from stand-ins, and what must hold of them together."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lsst.daf.butler import DatasetType, DimensionUniverse
from lsst.pipe.base.pipeline_graph import PipelineGraph

from proc_decam_dagster.execution.graph import load_pipeline, read_pipeline
from proc_decam_dagster.execution.step import step_name
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
UNIVERSE = DimensionUniverse()
REFCATS = {n: DatasetType(n, UNIVERSE.conform(["htm7"]), "SimpleCatalog") for n in datasets.REFCATS.values()}

GIVEN = {
    "{subset}/bias/raw": {datasets.RAW},
    "{subset}/flat/raw": {datasets.RAW},
    "{subset}/drp/raw": {datasets.RAW},
    names.CALIB: {"camera", datasets.CROSSTALK, "linearizer"},
    names.CALIB_BPM: {datasets.DEFECTS, datasets.SUSPECT_MASK},
    names.FAKES: {"injection_catalog"},
    names.REFCATS: set(datasets.REFCATS.values()),
    names.SKYMAPS: {datasets.SKYMAP},
}
"""What the collections hold that no step fills."""


@dataclass(frozen=True)
class Step:
    """One step of a proc type.

    Attributes
    ----------
    proc_type, file, name : `str`
        Proc type, pipeline file and subset.
    """

    proc_type: str
    file: str
    name: str

    def __str__(self) -> str:
        return f"{self.file}#{self.name}"


def steps(proc_type: str, template_type: str = "meanclip") -> list[Step]:
    """Return a proc type's steps in order, those on injected science images after the others."""
    row = PROC_TYPES[proc_type]
    found = [Step(proc_type, row.pipeline_name(template_type), step) for step in row.steps]
    if proc_type == "diff_drp":
        found += [Step(proc_type, s.file, step_name(proc_type, s.name, "injected")) for s in found]
    return found


ALL_STEPS = [step for proc_type in PROC_TYPES for step in steps(proc_type)]


_whole = cache(read_pipeline)


@cache
def graph_of(step: Step, folder: Path = PIPELINES, coadd_name: str = "") -> PipelineGraph:
    """Return the graph of a step, resolved: connections made, dimensions and dataset types agreed upon."""
    config = {"parameters:coaddName": coadd_name} if coadd_name else None
    file = str(folder / step.file)
    graph = load_pipeline(file, step.name, config, whole=_whole(file)).to_graph()
    graph.resolve(dimensions=UNIVERSE, dataset_types=REFCATS)
    return graph


def outputs(graph: PipelineGraph) -> set[str]:
    """Return the dataset types that a step makes; a component counts as its whole."""
    return {e.parent_dataset_type_name for t in graph.tasks.values() for e in t.outputs.values()}


def inputs(graph: PipelineGraph) -> set[str]:
    """Return the dataset types that a step reads and does not make; prerequisites that may be absent are left out."""
    found = set()
    for task in graph.tasks.values():
        found |= {e.parent_dataset_type_name for e in task.inputs.values()}
        for edge in task.prerequisite_inputs.values():
            if getattr(task.get_connections(), edge.connection_name).minimum > 0:
                found.add(edge.parent_dataset_type_name)
    return found - outputs(graph)


def init_inputs(graph: PipelineGraph) -> set[str]:
    """Return the schemas that a step reads and does not make."""
    edges = [t.init for t in graph.tasks.values()]
    made = {e.parent_dataset_type_name for t in edges for e in t.outputs.values()}
    return {e.parent_dataset_type_name for t in edges for e in t.inputs.values()} - made


def init_outputs(graph: PipelineGraph) -> set[str]:
    """Return the schemas that a step makes; configurations, logs and metadata are left out."""
    return {
        e.parent_dataset_type_name
        for t in graph.tasks.values()
        for e in t.init.outputs.values()
        if not e.parent_dataset_type_name.endswith("_config")
    }


_PARTS = {"subset": "night", "coadd_subset": "nights", "template_type": "meanclip"}


def collection_holds(collection: str) -> set[str]:
    """Return the dataset types of an input collection of the proc-type table."""
    if collection in GIVEN:
        return GIVEN[collection]
    if collection == "{coadd_subset}/{template_type}/coadd/inputs":
        # what is gathered from the nights' chains: wanted, and made there
        return {datasets.named(t) for t in datasets.COADD_INPUTS} & chain_holds("drp")
    for row in PROC_TYPES.values():
        if row.certifies and collection == f"{{subset}}/calib/{row.certifies}":
            return {row.certifies} & chain_holds(row.name)
        if collection.format(**_PARTS) == row.chain(**_PARTS):
            return chain_holds(row.name)
    raise KeyError(f"nothing is known of what {collection} holds")


@cache
def chain_holds(proc_type: str) -> set[str]:
    """Return the dataset types of a finished chain: what its collections bring, and what its steps make."""
    found = set()
    for collection in PROC_TYPES[proc_type].inputs:
        found |= collection_holds(collection)
    for step in steps(proc_type):
        graph = graph_of(step)
        found |= outputs(graph) | init_outputs(graph)
    return found


def missing_inputs(proc_type: str, folder: Path = PIPELINES) -> list[str]:
    """Return the inputs of a proc type's steps that neither an earlier step makes nor a collection brings.

    Parameters
    ----------
    proc_type : `str`
        Proc type.
    folder : `~pathlib.Path`, optional
        Where its pipeline is read; what other chains bring comes from ours.
    """
    there = set()
    for collection in PROC_TYPES[proc_type].inputs:
        there |= collection_holds(collection)
    problems = []
    for step in steps(proc_type):
        graph = graph_of(step, folder)
        wanted = inputs(graph) | init_inputs(graph)
        problems += [f"{step} needs {name}" for name in sorted(wanted - there)]
        there |= outputs(graph) | init_outputs(graph)
    return problems


def unmet_options(proc_type: str, folder: Path = PIPELINES) -> list[str]:
    """Return the prerequisites that nothing makes or brings, though a graph is built without them (``minimum=0``).

    The middleware leaves them out in silence, and it is the task that fails, quantum by quantum.
    """
    there = set().union(*(collection_holds(collection) for collection in PROC_TYPES[proc_type].inputs))
    problems = []
    for step in steps(proc_type):
        graph = graph_of(step, folder)
        for label, task in graph.tasks.items():
            wanted = {edge.parent_dataset_type_name for edge in task.prerequisite_inputs.values()}
            problems += [f"{step} {label} may want {name}" for name in sorted(wanted - there)]
        there |= outputs(graph)
    return problems


def arrows(selected: Iterable[Step], folder: Path = PIPELINES) -> dict[str, set[str]]:
    """Return which nodes follow upon which, datasets and ``task:label``, prerequisites included."""
    found: dict[str, set[str]] = {}
    for step in selected:
        for label, task in graph_of(step, folder).tasks.items():
            for edge in [*task.inputs.values(), *task.prerequisite_inputs.values()]:
                found.setdefault(edge.parent_dataset_type_name, set()).add(f"task:{label}")
            for edge in task.outputs.values():
                found.setdefault(f"task:{label}", set()).add(edge.parent_dataset_type_name)
    return found


def reached(arrows: dict[str, set[str]], start: str, without: str = "") -> set[str]:
    """Return all that follows upon a node on ways that do not pass another."""
    found, queue = set(), [start]
    while queue:
        for after in arrows.get(queue.pop(), ()):
            if after not in found and after != without:
                found.add(after)
                queue.append(after)
    return found


def past_suspect_mask(folder: Path = PIPELINES) -> list[str]:
    """Return the calibrated exposures that pixels reach without passing the task that marks suspect ones."""
    ways = arrows(steps("drp"), folder)
    marks = {task for task in ways[datasets.SUSPECT_MASK] if task.startswith("task:")}
    assert len(marks) == 1, marks
    calibrated = {datasets.CALEXP, datasets.INJECTED_CALEXP}
    # Pixels go from exposure to exposure, and a calibrated one ends their way: what is measured on clean exposures is
    # used to inject fakes, but not their pixels.
    kept = {node for node in ways if node.startswith("task:")} | exposures(steps("drp"), folder)
    pixels = {node: after & kept for node, after in ways.items() if node in kept - calibrated}
    return sorted(reached(pixels, datasets.POST_ISR, without=marks.pop()) & calibrated)


def exposures(selected: Iterable[Step], folder: Path = PIPELINES) -> set[str]:
    """Return the dataset types of steps that are images with mask."""
    nodes = [node for step in selected for node in graph_of(step, folder).dataset_types.values()]
    return {node.name for node in nodes if node.storage_class_name.startswith("Exposure")}
