"""The packaged pipelines resolve with the real tasks of the release, fit together, and make graphs.

Step by step: what one step makes may be a prerequisite of the next, which the middleware allows in no single graph.
"""

import pytest
from contract.graphs import ALL_STEPS, PIPELINES, graph_of, missing_inputs, past_suspect_mask, steps, unmet_options
from lsst.pipe.base import Pipeline

from proc_decam_dagster.execution.pipelines import pipeline_path
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES

pytestmark = pytest.mark.stack
STEPS = dict.fromkeys([*ALL_STEPS, *(step for t in TEMPLATE_TYPES for step in steps("coadd", t))])


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_step_resolves(step):
    wanted = Pipeline.from_uri(str(PIPELINES / step.file)).subsets[step.name]
    assert wanted and set(graph_of(step).tasks) == set(wanted)


@pytest.mark.parametrize("proc_type", PROC_TYPES)
def test_every_input_is_made_by_an_earlier_step_or_brought_by_the_chain(proc_type):
    assert missing_inputs(proc_type) == []
    assert unmet_options(proc_type) == []


def test_no_exposure_is_calibrated_without_its_suspect_pixels():
    assert past_suspect_mask() == []


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
