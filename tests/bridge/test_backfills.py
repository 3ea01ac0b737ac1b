"""Backfills asked for from a terminal: which partitions, and that Dagster takes them."""

import dagster as dg
import pytest

from proc_decam_dagster.bridge import backfills
from proc_decam_dagster.definitions import defs
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.partitions import add_coadd_subset, add_nights

NIGHTS = ["20190401", "20190402", "20200101"]


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    with dg.instance_for_test(temp_dir=str(tmp_path_factory.mktemp("instance"))) as made:
        add_nights(made, NIGHTS)
        add_coadd_subset(made, "2019")
        yield made


def test_nights_by_pattern_and_by_what_is_missing(instance):
    bias = dg.AssetKey("bias")
    instance.report_runless_asset_event(dg.AssetMaterialization(bias, partition="20190401"))
    found = backfills.wanted(instance, "2019.*", ["calexps", "bias"])
    assert list(found.partitions) == [bias, dg.AssetKey("calexps")]  # in the order of the graph
    assert all(names == NIGHTS[:2] for names in found.partitions.values())
    missing = backfills.wanted(instance, "2019.*", ["bias"], missing=True)
    assert missing.partitions == {bias: ["20190402"]} and missing.there == {bias: 1}


def test_template_types_and_subsets(instance):
    found = backfills.wanted(
        instance, "2019.*", ["coadds", "meanclip/diffs"], coadd_subset="2019", template_types=["min"]
    )
    assert {k.to_user_string(): v for k, v in found.partitions.items()} == {
        "min/coadds": ["2019"], "meanclip/diffs": ["2019|20190401", "2019|20190402"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["biases"], {}, "biases"),
        (["coadds"], {"coadd_subset": "2019"}, "no template type"),
        (["mean/coadds"], {}, "no coadd subset"),
        (["mean/coadds"], {"coadd_subset": "2021"}, "2021"),
        (["average/coadds"], {"coadd_subset": "2019"}, "average/coadds"),
    ],
)
def test_mistakes_are_named(instance, words, options, said):
    with pytest.raises(SurveyError, match=said):
        backfills.wanted(instance, "2019.*", words, **options)
    with pytest.raises(SurveyError, match="no night matches"):
        backfills.wanted(instance, "2031.*", ["bias"])


def test_dagster_takes_the_backfill(instance):
    found = backfills.wanted(instance, "2019.*", ["bias", "flat"])
    assert not backfills.daemon_runs(instance)
    name = backfills.request(instance, found, title="bias, flat of 2019.*")
    (backfill,) = instance.get_backfills()
    assert backfill.backfill_id == name and backfill.title == "bias, flat of 2019.…"
    data = backfill.get_asset_backfill_data(defs.resolve_asset_graph())
    subsets = data.target_subset.partitions_subsets_by_asset_key
    assert {k.to_user_string(): sorted(s.get_partition_keys()) for k, s in subsets.items()} == {
        "bias": NIGHTS[:2], "flat": NIGHTS[:2],
    }  # fmt: skip
