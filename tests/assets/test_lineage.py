"""The asset graph says what the collection chains say."""

import re
from pathlib import Path

import dagster as dg
import pytest

from proc_decam_dagster.assets.lineage import ASSET_OF_COLLECTION, ASSET_OF_PROC_TYPE, asset_key
from proc_decam_dagster.definitions import build_definitions
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES


@pytest.fixture(scope="module")
def graph():
    return build_definitions().resolve_asset_graph()


@pytest.mark.parametrize("template_type", TEMPLATE_TYPES)
@pytest.mark.parametrize("proc_type", PROC_TYPES)
def test_parents_are_the_sources_of_the_input_collections(graph, proc_type, template_type):
    row = PROC_TYPES[proc_type]
    expected = {asset_key(ASSET_OF_COLLECTION[pattern], template_type) for pattern in row.inputs}
    node = graph.get(asset_key(ASSET_OF_PROC_TYPE[proc_type], template_type))
    assert set(node.parent_keys) == expected


def test_every_input_collection_has_an_asset_and_every_chain_one_of_its_own():
    patterns = {pattern for row in PROC_TYPES.values() for pattern in row.inputs}
    assert patterns == set(ASSET_OF_COLLECTION)
    assert set(ASSET_OF_PROC_TYPE) == set(PROC_TYPES)


def test_asset_key_and_partition_spell_the_chain(graph):
    """Asset prefix and partition dimensions hold exactly the parts of the chain's name."""
    dimension_of_axis = {"subset": "night", "coadd_subset": "coadd_subset"}
    for proc_type, row in PROC_TYPES.items():
        for template_type in TEMPLATE_TYPES if "template_type" in row.axes else ("",):
            key = asset_key(ASSET_OF_PROC_TYPE[proc_type], template_type)
            assert list(key.path[:-1]) == ([template_type] if template_type else [])
            partitions = graph.get(key).partitions_def
            if isinstance(partitions, dg.MultiPartitionsDefinition):
                dimensions = set(partitions.partition_dimension_names)
            else:
                dimensions = {re.sub("^[^_]*_", "", partitions.name)}
            assert dimensions == {dimension_of_axis[a] for a in row.axes if a != "template_type"}


def test_partition_mappings_survive_the_repository_snapshot():
    """Dagster drops custom mappings from the snapshot that the UI and the daemon work with."""
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster._serdes import deserialize_value, serialize_value

    snap = RepositorySnap.from_def(build_definitions().get_repository_def())
    nodes = {n.asset_key: n for n in deserialize_value(serialize_value(snap)).asset_nodes}
    edges = {e.parent_asset_key: e.partition_mapping for e in nodes[asset_key("diffs", "mean")].parent_edges}
    assert edges[asset_key("calexps")] == dg.MultiToSingleDimensionPartitionMapping("night")
    assert edges[asset_key("coadds", "mean")] == dg.MultiToSingleDimensionPartitionMapping("coadd_subset")


def test_every_asset_has_a_group_an_owner_a_kind_a_description_and_a_way_to_its_code(graph):
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.group_name != "default" and node.owners and node.kinds and node.description, key
        (code,) = node.metadata["dagster/code_references"].code_references
        line = Path(code.file_path).read_text().splitlines()[code.line_number - 1]
        assert "survey_asset" in line and code.label == key.path[-1], (key, line)


def test_code_is_found_in_a_git_host_if_one_is_configured(monkeypatch):
    monkeypatch.setenv("PROC_DECAM_GIT_URL", "https://github.com/team/survey.git")
    monkeypatch.setenv("PROC_DECAM_GIT_REVISION", "v1")
    node = build_definitions().resolve_asset_graph().get(asset_key("calexps"))
    (code,) = node.metadata["dagster/code_references"].code_references
    start = "https://github.com/team/survey/tree/v1/proc_decam_dagster/assets/science.py#L"
    assert code.url.startswith(start)


def test_what_is_plotted_over_the_nights_is_described(graph):
    from proc_decam_dagster.report.figures import VISIT_FIGURES
    from proc_decam_dagster.report.labels import FIGURES

    described = "".join(graph.get(key).description for key in graph.materializable_asset_keys)
    assert all(f"| `{figure}` |" in described for figure in (*FIGURES, *VISIT_FIGURES))
