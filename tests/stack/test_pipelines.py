"""The packaged pipelines resolve with the real tasks of the release, and make graphs."""

import pytest

from proc_decam_dagster.execution.pipelines import pipeline_path
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES

pytestmark = pytest.mark.stack
CASES = sorted({(row.pipeline_name(t), row.steps) for row in PROC_TYPES.values() for t in TEMPLATE_TYPES})


@pytest.mark.parametrize("name, steps", CASES, ids=[f"{n}-{s[0]}" for n, s in CASES])
def test_every_step_resolves(repository, name, steps):
    from lsst.pipe.base import Pipeline

    path = pipeline_path(repository, name)
    whole = Pipeline.from_uri(path).to_graph(registry=repository.butler().registry)
    assert set(steps) <= set(whole.task_subsets)
    for step in steps:
        graph = Pipeline.from_uri(f"{path}#{step}").to_graph(registry=repository.butler().registry)
        assert set(graph.tasks) == set(whole.task_subsets[step])


def test_a_nights_zeros_make_a_graph(repository, survey):
    from proc_decam_dagster.execution.graph import build_graph, load_pipeline
    from proc_decam_dagster.repository import tag_raws, update_chain

    night = str(survey[0]["night"][survey[0]["obs_type"] == "zero"][0])
    zeros = tag_raws(repository, night, "bias")
    chain = update_chain(repository, "bias", night)
    tasks = load_pipeline(pipeline_path(repository, "bias.yaml"), "step1", None)
    graph = build_graph(
        repository.butler(writeable=True), tasks, chain=chain, run=f"{chain}/bias/step1/20000101T000000Z", where="",
        skip_existing_in=[], failed=set(), instrument="DECam", skymap="",
    ).graph  # fmt: skip
    assert len(graph) == zeros
