"""One quantum graph a step: built in process, without the quanta that succeeded or failed for good before."""

import ast
import copy
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from lsst.daf.butler import MissingDatasetTypeError
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import LabelSpecifier, Pipeline
from lsst.pipe.base.all_dimensions_quantum_graph_builder import AllDimensionsQuantumGraphBuilder
from lsst.pipe.base.quantum_graph_builder import QuantumGraphBuilderError
from lsst.pipe.base.quantum_graph_skeleton import DatasetKey, QuantumKey
from lsst.utils.logging import getLogger

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.attempts import QuantumName, data_id_key
from proc_decam_dagster.execution.pipelines import split_fragment
from proc_decam_dagster.repository.queries import told_where
from proc_decam_dagster.survey import datasets

if TYPE_CHECKING:
    from lsst.daf.butler import Butler
    from lsst.pipe.base.pipeline_graph import PipelineGraph
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph, PredictedQuantumGraphComponents

OPTIONAL_INPUTS = (datasets.FAKES,)
"""Inputs that a survey may lack: the tasks that need them are then left out, which is told, and is no failure."""

MADE_BY = {
    datasets.RAW: "proc-decam night REPO EXPOSURES",
    datasets.BIAS: "proc-decam night REPO NIGHT --proc-type bias",
    datasets.FLAT: "proc-decam night REPO NIGHT --proc-type flat",
    datasets.DEFECTS: "proc-decam defects REPO BPM_PATH",
    datasets.SUSPECT_MASK: "proc-decam defects REPO BPM_PATH",
    datasets.CROSSTALK: "butler write-curated-calibrations REPO DECam",
    datasets.LINEARIZER: "butler write-curated-calibrations REPO DECam",
    datasets.SKYMAP: "proc-decam skymap REPO EXPOSURES",
} | dict.fromkeys(datasets.REFCATS.values(), "proc-decam refcats REPO EXPOSURES")
"""The command that makes what no step makes."""

# The builder logs twenty lines where no data id is found; `explain_empty` says the same in one.
_BUILDER_LOG = getLogger(__name__ + ".builder")
_BUILDER_LOG.setLevel("CRITICAL")


@dataclass
class StepGraph:
    """A step's graph, and the quanta that were left out of it.

    Attributes
    ----------
    labels : `list` [`str`]
        The step's task labels, in the pipeline's order.
    graph : `~lsst.pipe.base.quantum_graph.PredictedQuantumGraph` or `None`
        What is to be run; `None` if nothing is.
    components : `~lsst.pipe.base.quantum_graph.PredictedQuantumGraphComponents` or `None`
        The same, as it is written to a file for the workers.
    skipped, failed, blocked : `set` [`QuantumName`]
        Left out because they had succeeded, had failed for good, or need outputs of these.
    missing : `dict` [`QuantumName`, `str`]
        Left out because no dataset of the named type was found for them.
    left_out : `dict` [`str`, `str`]
        Tasks of the step that are not in ``labels``, and the optional dataset type that the survey lacks for them.
    """

    labels: list[str]
    graph: "PredictedQuantumGraph | None" = None
    components: "PredictedQuantumGraphComponents | None" = None
    skipped: set[QuantumName] = field(default_factory=set)
    failed: set[QuantumName] = field(default_factory=set)
    blocked: set[QuantumName] = field(default_factory=set)
    missing: dict[QuantumName, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class StepGraphBuilder(AllDimensionsQuantumGraphBuilder):
    """The middleware's builder, which also leaves out given quanta, and those that lack a prerequisite.

    The middleware refuses the whole graph where one quantum lacks a prerequisite: one detector without a bias would
    stop the other sixty-one. Here that quantum alone is left out, and named in `StepGraph.missing`.

    Parameters
    ----------
    failed : `~collections.abc.Collection` [`QuantumName`]
        Quanta to leave out with everything that only they could have made.
    **kwargs
        Passed on.
    """

    def __init__(self, *args: Any, failed: Collection[QuantumName] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log = _BUILDER_LOG
        self.known_failed = frozenset(failed)
        self.found: set[QuantumName] = set()
        self.skipped: set[QuantumName] = set()
        self.failed: set[QuantumName] = set()
        self.missing: dict[QuantumName, str] = {}

    def process_subgraph(self, subgraph: "PipelineGraph"):
        skeleton = super().process_subgraph(subgraph)
        for label, task in subgraph.tasks.items():
            dimensions = tuple(task.dimensions.required)
            needed = [
                edge.parent_dataset_type_name
                for edge in task.prerequisite_inputs.values()
                if edge.connection_name not in self.prerequisite_info[label].finders
                and getattr(task.get_connections(), edge.connection_name).minimum > 0
            ]
            for quantum in list(skeleton.get_quanta(label)):
                name = (label, data_id_key(dict(zip(dimensions, quantum.data_id_values))))
                self.found.add(name)
                metadata = DatasetKey(task.metadata_output.parent_dataset_type_name, quantum.data_id_values)
                if self.skip_existing_in and skeleton.get_output_for_skip(metadata) is not None:
                    self.skipped.add(name)
                elif name in self.known_failed:
                    self.failed.add(name)
                    skeleton.remove_quantum_node(quantum, remove_outputs=True)
                elif lacking := self._lacking(skeleton, quantum, needed):
                    self.missing[name] = lacking
                    skeleton.remove_quantum_node(quantum, remove_outputs=True)
        return skeleton

    @staticmethod
    def _lacking(skeleton, quantum: QuantumKey, needed: list[str]) -> str:
        """Return the first dataset type of ``needed`` that was not found for a quantum, or an empty string."""
        if not needed:
            return ""
        have = {key.parent_dataset_type_name for key in skeleton.iter_inputs_of(quantum) if not key.is_task}
        return next((name for name in needed if name not in have), "")


def read_pipeline(file: str) -> Pipeline:
    """Read a whole pipeline with all that it imports.

    Raises
    ------
    SurveyError
        If it is no pipeline.
    """
    try:
        return Pipeline.from_uri(file)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SurveyError(
            f"pipeline {file} cannot be read ({reason})", "a pipeline in YAML", "mend the file"
        ) from error


def load_pipeline(
    path: str, step: str = "", config: Mapping[str, Any] | None = None, *, whole: Pipeline | None = None
) -> Pipeline:
    """Read the part of a pipeline that a step holds.

    Parameters
    ----------
    path : `str`
        The pipeline's file; a ``#step`` in it counts if ``step`` is empty.
    step : `str`, optional
        Label of a subset (or of a task); the whole pipeline if empty.
    config : `~collections.abc.Mapping`, optional
        Configuration to change, ``{"label:field": value}``; labels that the step lacks are passed over.
        ``parameters:name`` sets a parameter of the pipeline.
    whole : `~lsst.pipe.base.Pipeline`, optional
        The file as `read_pipeline` gave it before: most of the time goes into reading. It is not changed.
    """
    file, fragment = split_fragment(path)
    step = step or fragment
    whole = read_pipeline(file) if whole is None else whole
    if step and step not in whole.subsets and step not in whole.task_labels:
        raise SurveyError(f"pipeline {file} has no step {step}", f"one of {', '.join(sorted(whole.subsets))}")
    pipeline = whole.subsetFromLabels(LabelSpecifier(labels={step})) if step else copy.deepcopy(whole)
    for key, value in (config or {}).items():
        label, colon, name = key.partition(":")
        if label == "parameters" and name:
            pipeline.addConfigOverride(label, name, value)
            continue
        if not (colon and name) or label not in whole.task_labels:
            raise SurveyError(
                f"configuration {key!r} names no task of {file}",
                f"LABEL:FIELD with a label of {', '.join(whole.task_labels)}",
            )
        if label in pipeline.task_labels:
            pipeline.addConfigOverride(label, name, _as_override(value))
    return pipeline


def _as_override(value: Any) -> Any:
    """Return a value as the middleware takes it, which evaluates strings as Python: ``os`` is a module."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return repr(value)


def constrained(where: str, dimensions: Collection[str], *, instrument: str, skymap: str) -> str:
    """Return a query with the repository's instrument and skymap added where it names none.

    Without them a second registered skymap would make every warp twice.

    Parameters
    ----------
    where : `str`
        The user's query; may be empty.
    dimensions : `~collections.abc.Collection` [`str`]
        Dimensions of the graph: what it does not have is not constrained.
    instrument : `str`
        Name of the instrument.
    skymap : `str`
        The constraint on the skymap, ``skymap='name'``.
    """
    terms = [f"({where})"] if where.strip() else []
    for dimension, term in (("instrument", f"instrument='{instrument}'"), ("skymap", skymap)):
        if dimension in dimensions and term and not re.search(rf"\b{dimension}\b(?!\.\w)", where):
            terms.append(term)
    return " AND ".join(terms)


def build_graph(
    butler: "Butler", pipeline: Pipeline, *, chain: str, run: str, where: str = "", skip_existing_in: list[str] = (),
    failed: Collection[QuantumName] = (), instrument: str = "DECam", skymap: str = "",
    excluded: Callable[[Collection[str]], list[str]] | None = None,
) -> StepGraph:  # fmt: skip
    """Build a step's graph.

    Parameters
    ----------
    butler : `~lsst.daf.butler.Butler`
        The repository.
    pipeline : `~lsst.pipe.base.Pipeline`
        The step's tasks.
    chain : `str`
        Collection that inputs are searched in.
    run : `str`
        RUN that outputs will be written to; need not exist.
    where, instrument, skymap : `str`, optional
        Query, and what `constrained` adds to it.
    skip_existing_in : `list` [`str`], optional
        Collections whose successes are not repeated.
    failed : `~collections.abc.Collection` [`QuantumName`], optional
        Quanta that failed for good.
    excluded : callable, optional
        Given the graph's dimensions, returns terms of a query that leave out what nobody wants.

    Raises
    ------
    SurveyError
        If there is nothing to run because inputs are missing; the message names them. A graph that is empty because
        everything succeeded (or failed for good) before is no error: `StepGraph.graph` is then `None`.
    """
    try:
        graph = pipeline.to_graph()
    except FieldValidationError as error:
        tasks = ", ".join(pipeline.task_labels)
        raise SurveyError(f"configuration of {tasks}: {str(error).splitlines()[0]}") from error
    left_out = leave_out_optional(graph, butler, chain)
    if not graph.tasks:
        return StepGraph([], left_out=left_out)
    try:
        graph.resolve(butler.registry)
        dimensions = graph.get_all_dimensions(prerequisites=False).names
        query = constrained(where, dimensions, instrument=instrument, skymap=skymap)
        query = " AND ".join(filter(None, [query, *(excluded(dimensions) if excluded else ())]))
        with told_where(where):
            builder = StepGraphBuilder(
                graph, butler, where=query, input_collections=[chain], output_run=run,
                skip_existing_in=list(skip_existing_in), failed=failed,
            )  # fmt: skip
            components = builder.finish(output=chain, metadata={"data_query": query})
    except (MissingDatasetTypeError, QuantumGraphBuilderError, FileNotFoundError) as error:
        raise explain_empty(butler, graph, chain, where, str(error)) from error
    if not builder.found:
        raise explain_empty(butler, graph, chain, where)
    missing = {name: kind for name, kind in builder.missing.items() if kind not in OPTIONAL_INPUTS}
    if missing.keys() == builder.found:
        raise explain_empty(butler, graph, chain, where)
    predicted = components.assemble()
    running = {
        (label, data_id_key(dict(data_id.required)))
        for label, quanta in predicted.quanta_by_task.items() for data_id in quanta
    }  # fmt: skip
    # What fell out without being asked lacks inputs that its upstream will not make.
    pruned = builder.found - running - builder.skipped - builder.failed - builder.missing.keys()
    blocked = pruned if builder.failed or missing else set()
    return StepGraph(
        list(graph.tasks), predicted if len(predicted) else None, components, builder.skipped - running,
        builder.failed, blocked, missing, left_out,
    )  # fmt: skip


def leave_out_optional(graph: "PipelineGraph", butler: "Butler", chain: str) -> dict[str, str]:
    """Remove from a pipeline graph the tasks that need an optional input of which the chain holds nothing.

    Tasks that need what these would have made go with them. Returned are their labels, with the dataset type.
    """
    import networkx

    doomed: dict[str, str] = {}
    for name in OPTIONAL_INPUTS:
        if name not in graph.dataset_types or has_any(butler, name, chain):
            continue
        for label, task in graph.tasks.items():
            for edge in task.iter_all_inputs():
                connection = getattr(task.get_connections(), edge.connection_name)
                if edge.parent_dataset_type_name == name and getattr(connection, "minimum", 1) > 0:
                    doomed[label] = name
    xgraph = graph.make_task_xgraph()
    by_label = {key.name: key for key in xgraph}
    for label in list(doomed):
        doomed |= {key.name: doomed[label] for key in networkx.descendants(xgraph, by_label[label])}
    if doomed:
        graph.remove_tasks(doomed, drop_from_subsets=True)
    return doomed


def has_any(butler: "Butler", dataset_type: str, chain: str, where: str = "") -> bool:
    """Whether a collection holds any dataset of a type."""
    try:
        return bool(butler.query_datasets(dataset_type, collections=chain, where=where, limit=1, explain=False))
    except MissingDatasetTypeError:
        return False


def explain_empty(butler: "Butler", graph: "PipelineGraph", chain: str, where: str, reason: str = "") -> SurveyError:
    """Return the error that says why a step has nothing to run: which inputs the chain lacks, or what excludes them."""
    inputs = [name for name, _ in graph.iter_overall_inputs()]
    lacking = [name for name in inputs if name not in OPTIONAL_INPUTS and not has_any(butler, name, chain)]
    tasks = ", ".join(graph.tasks)
    if lacking:
        commands = sorted({f"`{MADE_BY[name]}`" for name in lacking if name in MADE_BY})
        return SurveyError(
            f"{tasks} cannot run: {chain} holds no {', '.join(lacking)}",
            "what comes before it",
            f"run {' and '.join(commands) or 'the steps before it (`proc-decam pipeline` runs all in order)'} first",
        )
    if reason:
        return SurveyError(f"{tasks} cannot run on {chain}: {reason.splitlines()[0]}")
    if where:
        return SurveyError(
            f"{tasks} has nothing to run on in {chain} where {where}", "a query that selects some of its data",
            "leave out --where, or look with `butler query-datasets`",
        )  # fmt: skip
    return SurveyError(
        f"{tasks} has nothing to run on: no data id of {chain} has all of {', '.join(inputs)}",
        "the same exposures, detectors or patches in each of them",
        "exposures outside the survey's skymap are one cause: `proc-decam skymap REPO exposures.ecsv`",
    )
