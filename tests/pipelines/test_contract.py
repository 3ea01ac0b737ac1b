"""The contract against an independent reading of the same release."""

import re

import pytest
from contract.classes import build, contract
from contract.graphs import UNIVERSE
from lsst.daf.butler import DatasetType
from lsst.pipe.base import Pipeline

PIPELINES = {
    "cp_resolved.txt": ["$CP_PIPE_DIR/pipelines/DECam/cpBias.yaml", "$CP_PIPE_DIR/pipelines/DECam/cpFlat.yaml"],
    "drp_resolved.txt": ["$DRP_PIPE_DIR/pipelines/DECam/DRP-Merian.yaml"],
}
DIFFERENT = {"jointcal", "consolidateHealSparsePropertyMaps", "fitDeblendedObjectsExp", "fitDeblendedObjectsSersic"}
"""Tasks whose connections are made up by code: metrics in a loop, maps in a loop, names put together.

Ours leave the first two out, and say the names of the others.
"""


def _resolved(location: str) -> dict[str, tuple]:
    """Return dimensions, prerequisites, inputs and outputs of a pipeline's tasks, by label."""
    pipeline = Pipeline.from_uri(location)
    for label in DIFFERENT & set(pipeline.task_labels):
        pipeline.removeTask(label)
    graph = pipeline.to_graph()
    htm = UNIVERSE.conform(["htm7"])
    refcats = ("gaia_dr3_20230707", "ps1_pv3_3pi_20170110", "gaia_dr2_20200414")
    graph.resolve(dimensions=UNIVERSE, dataset_types={n: DatasetType(n, htm, "SimpleCatalog") for n in refcats})
    return {
        label: (
            task.task_class_name, set(task.dimensions.required),
            {e.parent_dataset_type_name for e in task.prerequisite_inputs.values()},
            {e.parent_dataset_type_name for e in task.inputs.values()},
            {e.parent_dataset_type_name for e in task.outputs.values()},
        )
        for label, task in graph.tasks.items()
    }  # fmt: skip


def _expected(text: str, location: str) -> dict[str, tuple]:
    name = location.removeprefix("$CP_PIPE_DIR/").removeprefix("$DRP_PIPE_DIR/")
    section = next(part for part in text.split("## ") if part.split(" tasks", 1)[0].endswith(name))
    found = {}
    for line in section.splitlines():
        if match := re.match(r"  (\w+) \| (\S+) \| \{(.*)\} \| prereq=(.*) \| in=(.*) \| out=(.*)$", line):
            label, task, dimensions, *lists = match.groups()
            found[label] = (task, set(dimensions.split(",")), *(set(re.findall(r"'(.*?)'", names)) for names in lists))
    return {label: row for label, row in found.items() if label not in DIFFERENT}


@pytest.mark.parametrize(("file", "location"), [(f, p) for f, ps in PIPELINES.items() for p in ps])
def test_upstream_pipelines_resolve_as_the_real_classes_do(shared_data, file, location):
    folder = shared_data / "science-pipelines"
    if not folder.is_dir():
        pytest.skip(f"no resolved upstream pipelines: {folder} is absent")
    expected = _expected((folder / file).read_text(), location)
    assert len(expected) >= 6
    found = _resolved(location)
    assert found.keys() == expected.keys()
    assert {label: row for label, row in found.items() if row != expected[label]} == {}


def test_every_class_of_a_task_is_described_with_its_configuration():
    for name, row in contract()["tasks"].items():
        assert row["config"] in contract()["configs"], name


@pytest.mark.parametrize("path", sorted(set(contract()["aliases"].values())))
def test_every_task_that_a_pipeline_names_can_be_configured(path):
    config = build(path).ConfigClass()
    config.validate()


def test_sources_are_named_with_tag_and_hash():
    sources = contract()["sources"]
    assert {"cp_pipe", "drp_pipe", "drp_tasks", "ip_diffim", "ip_isr", "obs_decam", "pipe_tasks"} <= sources.keys()
    for row in sources.values():
        assert row["tag"] and len(row["sha256"]) == 64 and row["files"] > 0
