"""Which quanta share a job: chosen by the driver, and told to BPS by its own hook for clustering."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from proc_decam_dagster.execution.attempts import data_id_key

if TYPE_CHECKING:
    import networkx
    from lsst.ctrl.bps import BpsConfig, ClusteredQuantumGraph
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraph


@dataclass
class Cluster:
    """The quanta of one job, in the order of their dependencies, and the memory that it asks for (MB)."""

    name: str
    label: str
    memory_mb: int
    quanta: list[UUID] = field(default_factory=list)


def cluster(
    xgraph: "networkx.DiGraph", todo: Collection[UUID], *, jobs: int, max_quanta: int, memory: Mapping[UUID, int]
) -> list[Cluster]:
    """Share quanta out to jobs: few, because each imports its libraries once, but enough to keep all cores busy.

    Task by task: quanta whose upstream is all in one job join that job, as long as there are jobs enough; the others
    begin jobs of their own, in the order of their data ids. A job only ever waits for jobs that were made before it,
    so no two wait for each other.

    Parameters
    ----------
    xgraph : `networkx.DiGraph`
        All quanta, with ``task_label`` and ``data_id``, in the pipeline's order of tasks.
    todo : `~collections.abc.Collection` [`uuid.UUID`]
        Those to run.
    jobs : `int`
        How many jobs of a task keep all cores busy.
    max_quanta : `int`
        Largest number of quanta in one job.
    memory : `~collections.abc.Mapping` [`uuid.UUID`, `int`]
        Memory that each quantum asks for (MB); only quanta that ask for the same share a job.
    """
    todo = set(todo)
    by_label: dict[str, list[UUID]] = {}
    for quantum, node in xgraph.nodes.items():
        if quantum in todo:
            by_label.setdefault(node["task_label"], []).append(quantum)
    clusters: list[Cluster] = []
    home: dict[UUID, Cluster] = {}

    def put(quantum: UUID, into: Cluster) -> None:
        into.quanta.append(quantum)
        home[quantum] = into

    for label in _in_order(xgraph, by_label):
        quanta = sorted(by_label[label], key=lambda q: data_id_key(dict(xgraph.nodes[q]["data_id"].required)))
        upstream = {q: {home[p].name: home[p] for p in xgraph.predecessors(q) if p in home} for q in quanta}
        joined = {name for homes in upstream.values() for name in homes}
        if (
            len(joined) >= min(jobs, len(quanta))
            and all(len(homes) == 1 for homes in upstream.values())
            and all(memory[q] == next(iter(upstream[q].values())).memory_mb for q in quanta)
        ):
            for quantum in quanta:
                put(quantum, next(iter(upstream[quantum].values())))
            continue
        for megabytes in sorted({memory[q] for q in quanta}):
            alike = [q for q in quanta if memory[q] == megabytes]
            count = min(len(alike), max(jobs, math.ceil(len(alike) / max_quanta)))
            for i in range(count):
                made = Cluster(f"{label}_{megabytes}_{i:04d}", f"{label}_{megabytes}", megabytes)
                clusters.append(made)
                for quantum in alike[len(alike) * i // count : len(alike) * (i + 1) // count]:
                    put(quantum, made)
    return clusters


def _in_order(xgraph: "networkx.DiGraph", labels: Collection[str]) -> list[str]:
    """Return task labels in the order of their dependencies."""
    import networkx

    tasks = networkx.DiGraph()
    tasks.add_nodes_from(labels)
    for above, below in xgraph.edges:
        pair = (xgraph.nodes[above]["task_label"], xgraph.nodes[below]["task_label"])
        if pair[0] in tasks and pair[1] in tasks and pair[0] != pair[1]:
            tasks.add_edge(*pair)
    return list(networkx.lexicographical_topological_sort(tasks))


def write_plan(path: Path, clusters: list[Cluster]) -> None:
    """Write which quanta share a job."""
    path.write_text(json.dumps([asdict(c) | {"quanta": [str(q) for q in c.quanta]} for c in clusters], indent=1))


def read_plan(path: str | Path) -> list[Cluster]:
    """Read what `write_plan` wrote."""
    plan: list[dict[str, Any]] = json.loads(Path(path).read_text())
    return [Cluster(**c | {"quanta": [UUID(q) for q in c["quanta"]]}) for c in plan]


def planned(config: "BpsConfig", qgraph: "PredictedQuantumGraph", name: str) -> "ClusteredQuantumGraph":
    """Return the clusters of the plan that ``planFile`` names: what BPS's ``clusterAlgorithm`` is set to.

    Quanta that no job of the plan holds are not run.
    """
    from lsst.ctrl.bps import ClusteredQuantumGraph, QuantaCluster

    clustered = ClusteredQuantumGraph(name, qgraph, config[".bps_defined.runQgraphFile"])
    home: dict[UUID, str] = {}
    for job in read_plan(config["planFile"]):
        made = QuantaCluster(job.name, job.label)
        for quantum in job.quanta:
            made.add_quantum(quantum, clustered.get_quantum_info(quantum)["task_label"])
            home[quantum] = job.name
        clustered.add_cluster(made)
    for above, below in clustered.qxgraph.edges:
        if above in home and below in home and home[above] != home[below]:
            clustered.add_dependency(home[above], home[below])
    return clustered
