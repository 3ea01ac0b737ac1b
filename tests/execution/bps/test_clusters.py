"""Quanta shared out to jobs: all of them once, few jobs, and none that wait for each other."""

from uuid import UUID, uuid5

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy.repository import PIPELINES

from proc_decam_dagster.execution.bps.clusters import cluster, read_plan, write_plan
from proc_decam_dagster.execution.graph import build_graph, load_pipeline
from proc_decam_dagster.repository import update_chain

CHAIN = "20190401/bias"
SPACE = UUID(int=0)


class Id(dict):
    """A data id as far as clustering asks."""

    @property
    def required(self):
        return self


def xgraph_of(tasks: list[tuple[str, list[int]]], edges) -> networkx.DiGraph:
    graph = networkx.DiGraph()
    for label, numbers in tasks:
        for n in numbers:
            graph.add_node(uuid5(SPACE, f"{label}{n}"), task_label=label, data_id=Id(n=n))
    graph.add_edges_from((uuid5(SPACE, a), uuid5(SPACE, b)) for a, b in edges)
    return graph


def check(graph, clusters, todo) -> None:
    """Assert what must hold of any sharing out."""
    placed = [q for c in clusters for q in c.quanta]
    assert len(placed) == len(set(placed)) and set(placed) == set(todo)
    assert len({c.name for c in clusters}) == len(clusters)
    home = {q: c.name for c in clusters for q in c.quanta}
    jobs = networkx.DiGraph([(home[a], home[b]) for a, b in graph.edges if a in home and b in home])
    jobs.remove_edges_from([(n, n) for n in list(jobs)])
    assert networkx.is_directed_acyclic_graph(jobs)


def test_a_chain_of_tasks_stays_in_one_job():
    n = range(100)
    graph = xgraph_of(
        [("a", n), ("b", n), ("c", n)],
        [(f"{x}{i}", f"{y}{i}") for i in n for x, y in ("ab", "bc")],
    )
    clusters = cluster(graph, graph.nodes, jobs=4, max_quanta=500, memory=dict.fromkeys(graph, 100))
    check(graph, clusters, graph.nodes)
    assert [len(c.quanta) for c in clusters] == [75] * 4


def test_a_task_that_gathers_has_jobs_of_its_own():
    n = range(10)
    graph = xgraph_of([("a", n), ("gather", [0])], [(f"a{i}", "gather0") for i in n])
    clusters = cluster(graph, graph.nodes, jobs=2, max_quanta=500, memory=dict.fromkeys(graph, 100))
    check(graph, clusters, graph.nodes)
    assert [(c.label, len(c.quanta)) for c in clusters] == [("a_100", 5), ("a_100", 5), ("gather_100", 1)]


def test_jobs_are_no_larger_than_allowed_and_memory_is_not_mixed():
    graph = xgraph_of([("a", range(100))], [])
    memory = {q: 100 + 100 * (graph.nodes[q]["data_id"]["n"] == 7) for q in graph}
    clusters = cluster(graph, graph.nodes, jobs=2, max_quanta=20, memory=memory)
    check(graph, clusters, graph.nodes)
    assert max(len(c.quanta) for c in clusters) <= 20
    assert [len(c.quanta) for c in clusters if c.memory_mb == 200] == [1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_graph_is_shared_out_whole_and_without_circles(data):
    numbers = st.lists(st.integers(0, 8), min_size=1, unique=True)
    tasks = [(label, data.draw(numbers)) for label in "abcd"]
    pairs = [
        (f"{tasks[i][0]}{x}", f"{tasks[j][0]}{y}")
        for i in range(4) for j in range(i + 1, 4) for x in tasks[i][1] for y in tasks[j][1]
    ]  # fmt: skip
    graph = xgraph_of(tasks, data.draw(st.lists(st.sampled_from(pairs), unique=True)))
    todo = data.draw(st.sets(st.sampled_from(sorted(graph.nodes)), min_size=1))
    memory = {q: data.draw(st.sampled_from([1, 2])) for q in sorted(graph)}
    clusters = cluster(graph, todo, jobs=data.draw(st.integers(1, 5)), max_quanta=3, memory=memory)
    check(graph, clusters, todo)


@pytest.fixture
def real_graph(repository):
    update_chain(repository, "bias", "20190401", "", "")
    tasks = load_pipeline(str(PIPELINES / "steps.yaml"), "chainOfTwo")
    return build_graph(repository.butler(), tasks, chain=CHAIN, run=f"{CHAIN}/x/y/20260101T000000Z").graph


def test_a_real_graph_and_its_plan(real_graph, tmp_path):
    graph = real_graph.quantum_only_xgraph
    clusters = cluster(graph, graph.nodes, jobs=3, max_quanta=500, memory=dict.fromkeys(graph, 100))
    check(graph, clusters, graph.nodes)
    assert len(clusters) == 3
    write_plan(tmp_path / "plan.json", clusters)
    assert read_plan(tmp_path / "plan.json") == clusters
