"""Memory of coadds: predicted from the warps of each patch, asked for, or made to fit with the choice recorded."""

import logging
import math

import pytest
from astropy import units as u
from astropy.table import Table
from astropy.time import Time
from lsst.daf.butler import CollectionType, DataCoordinate, DatasetType, Timespan

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.attempts import data_id_key
from proc_decam_dagster.execution.coadd_memory import (
    coadd_requests,
    limit_warps,
    most_warps,
    predict_memory,
    record_path,
    spread,
)
from proc_decam_dagster.execution.graph import build_graph, load_pipeline
from proc_decam_dagster.execution.pipelines import pipeline_path
from proc_decam_dagster.repository import create_repository, update_chain
from proc_decam_dagster.repository.science_pipelines import SciencePipelinesEngine

STACK = SciencePipelinesEngine.coadd_memory_mb
NIGHT, RUN, TAG = "20190401", "20190401/drp/DRP/step3a/20240101T000000Z", "2019/mean/coadd/inputs"
VISITS = {0: range(1, 8), 1: range(1, 3), 2: range(4, 5)}
"""Visits that have a warp, by patch."""


@pytest.mark.parametrize(
    "warps, gigabytes", [(1, 6), (50, 6), (51, 12), (150, 12), (151, 12 * 151 / 150), (300, 24)]
)  # fmt: skip
def test_memory_by_the_number_of_warps(warps, gigabytes):
    assert predict_memory(warps, STACK) == pytest.approx(gigabytes * 1024)
    assert most_warps(predict_memory(warps, STACK), STACK) >= warps


@pytest.mark.parametrize("gigabytes, warps", [(5, 0), (6, 50), (11.9, 50), (12, 150), (24, 300)])
def test_warps_that_fit(gigabytes, warps):
    assert most_warps(gigabytes * 1024, STACK) == warps


def test_what_is_kept_spans_the_whole_time():
    assert spread(range(10), 4) == (0, 3, 6, 9)
    assert spread((5, 6), 4) == (5, 6)
    assert spread(range(1000), 150)[::149] == (0, 999) and len(spread(range(1000), 150)) == 150


@pytest.fixture
def warped(tmp_path):
    """A repository with warps of three patches, in the registry alone: the graph needs no more."""
    exposures = Table(rows=[(1, "object", 149.4, 1.7)], names=("EXPNUM", "obs_type", "RA(deg)", "DEC(deg)"))
    repo = create_repository(tmp_path / "repo", exposures=exposures)
    butler = repo.butler(writeable=True)
    begin = Time("2019-04-02T05:00:00", scale="tai")
    span = Timespan(begin, begin + 1 * u.hour)
    insert = butler.registry.insertDimensionData
    insert("day_obs", {"instrument": "DECam", "id": 20190401, "timespan": span})
    vr = "VR DECam c0007 6300.0 2600.0"
    for visit in range(1, 8):
        common = {"instrument": "DECam", "id": visit, "name": str(visit), "day_obs": 20190401, "physical_filter": vr}
        insert("visit", common | {"seq_num": visit, "timespan": span})
    butler.collections.register(RUN)
    dims = ("instrument", "skymap", "tract", "patch", "visit")
    kind = DatasetType("deepCoadd_directWarp", dims, "DecamImage", universe=butler.dimensions)
    butler.registry.registerDatasetType(kind)
    data_ids = [
        DataCoordinate.standardize(
            instrument="DECam", skymap="discrete", tract=0, patch=patch, visit=visit, universe=butler.dimensions
        )
        for patch, visits in VISITS.items() for visit in visits
    ]  # fmt: skip
    refs = butler.registry.insertDatasets(kind, data_ids, run=RUN)
    butler.collections.register(TAG, CollectionType.TAGGED)
    butler.registry.associate(TAG, refs)
    update_chain(repo, "coadd", coadd_subset="2019", template_type="mean")
    yield repo
    repo.close()


def build(repo):
    tasks = load_pipeline(pipeline_path(repo, "mean-template.yaml"), "step3b", None)
    return build_graph(
        repo.butler(writeable=True), tasks, chain="2019/mean/coadd", run="2019/mean/coadd/mean-template/step3b/x",
        where="", skip_existing_in=[], failed=set(), instrument="DECam", skymap="skymap='discrete'",
    ).graph  # fmt: skip


def asked(graph, model, **limit):
    """Return the requests in GB by patch."""
    key = {
        ("assembleCoadd", data_id_key({"band": "VR", "skymap": "discrete", "tract": 0, "patch": patch})): patch
        for patch in VISITS
    }
    return {key[name]: megabytes / 1024 for name, megabytes in coadd_requests(graph, model, **limit).items()}


def test_each_patch_asks_for_what_its_own_warps_need(warped):
    graph = build(warped)
    assert asked(graph, STACK) == {0: 6, 1: 6, 2: 6}
    assert asked(graph, ((1, 1024), (2, 2048))) == {0: 7, 1: 2, 2: 1}
    assert coadd_requests(graph, warped.engine.coadd_memory_mb) == {}  # its coadds stream


def test_what_cannot_be_had_is_cut_and_named(warped, caplog):
    with caplog.at_level(logging.WARNING):
        assert asked(build(warped), ((1, 1024), (2, 2048)), limit_mb=4096) == {0: 4, 1: 2, 2: 1}
    assert "1 coadds need more than the 4096 MB" in caplog.text
    assert "tract 0 patch 0: 7 warps" in caplog.text and "--max-warps 4" in caplog.text


def test_the_coadd_takes_no_more_warps_than_asked_and_the_choice_is_recorded(warped):
    limit_warps(warped, "2019", "mean", 3)
    held = warped.butler().query_datasets("deepCoadd_directWarp", TAG, find_first=False, limit=None)
    by_patch = {p: sorted(r.dataId["visit"] for r in held if r.dataId["patch"] == p) for p in VISITS}
    assert by_patch == {0: [1, 4, 7], 1: [1, 2], 2: [4]}
    table = Table.read(record_path(warped, "2019", "mean"))
    assert [tuple(row) for row in table["patch", "band", "warps", "used"]] == [
        (0, "VR", 7, 3), (1, "VR", 2, 2), (2, "VR", 1, 1)
    ]  # fmt: skip
    assert list(table["left_out_visits"].filled("")) == ["2 3 5 6", "", ""]
    assert asked(build(warped), ((1, 1024),)) == {0: 3, 1: 2, 2: 1}
    # The warps themselves are still in the night's own chain.
    assert len(warped.butler().query_datasets("deepCoadd_directWarp", RUN, limit=None)) == 10


def test_without_a_limit_all_stay_and_are_counted(warped):
    patches = limit_warps(warped, "2019", "mean")
    assert [len(p.used) for p in patches] == [7, 2, 1]
    table = Table.read(record_path(warped, "2019", "mean"))
    assert sum(table["used"]) == 10 and all(map(math.isnan, table["memory_mb"]))


def test_a_limit_that_leaves_nothing_is_refused(warped):
    with pytest.raises(SurveyError, match="at most 0 warps"):
        limit_warps(warped, "2019", "mean", 0)
