"""TAGGED collections: the inputs of a coadd, all of them, these only, and never a fake."""

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import associate, associate_coadd_inputs, coadd_nights, update_chain
from proc_decam_dagster.survey import datasets

TAG = "2019/min/coadd/inputs"
WARP = ("instrument", "skymap", "tract", "patch", "visit")


@pytest.fixture
def warped(night, put):
    """The night with warps of both visits on two patches, a table of each visit, and the same with fakes."""
    update_chain(night, "drp", "20190401")
    butler = night.butler(writeable=True)
    skymap = night.settings.skymap
    tract, *_ = sorted(r.id for r in butler.query_dimension_records("tract", where=f"skymap='{skymap}'"))
    run = "20190401/drp/DRP/step3a/20240101T000000Z"
    butler.collections.register(run, CollectionType.RUN)
    for visit in (845005, 845006):
        for patch in (0, 1):
            data_id = {"skymap": skymap, "tract": tract, "patch": patch, "visit": visit}
            put(night, "deepCoadd_directWarp", run, WARP, **data_id)
            put(night, "injected_deepCoadd_directWarp", run, WARP, **data_id)
        put(night, "preSourceTable_visit", run, ("instrument", "visit"), visit=visit)
        put(night, "injected_preSourceTable_visit", run, ("instrument", "visit"), visit=visit)
    update_chain(night, "drp", "20190401")
    return night


def tagged(repo, name="deepCoadd_directWarp"):
    return repo.butler().query_datasets(name, TAG, find_first=False, explain=False)


def test_warps_and_tables_of_the_nights(warped):
    counts = associate_coadd_inputs(warped, ["20190401"], "2019", "min")
    assert counts["deepCoadd_directWarp"] == len(tagged(warped)) == 4
    assert counts["preSourceTable_visit"] == len(tagged(warped, "preSourceTable_visit")) == 2
    assert counts["finalized_src_table"] == 0
    assert warped.butler().collections.get_info(TAG).type is CollectionType.TAGGED


def test_no_fake_reaches_a_template(warped):
    associate_coadd_inputs(warped, ["20190401"], "2019", "min")
    held = warped.butler().collections.get_info(TAG, include_summary=True).dataset_types
    assert not [t for t in held if t.startswith(datasets.INJECTED)]
    with pytest.raises(SurveyError, match="hold fakes"):
        associate_coadd_inputs(warped, ["20190401"], "2019", "min", coadd_name="injected_deep")


def test_rebuilt_not_appended(warped, put):
    associate_coadd_inputs(warped, ["20190401"], "2019", "min")
    old = {ref.id for ref in tagged(warped)}
    run = "20190401/drp/DRP/step3a/20240201T000000Z"
    butler = warped.butler(writeable=True)
    butler.collections.register(run, CollectionType.RUN)
    first = min(tagged(warped)).dataId
    put(warped, "deepCoadd_directWarp", run, WARP, **{k: v for k, v in first.required.items() if k != "instrument"})
    update_chain(warped, "drp", "20190401")
    associate_coadd_inputs(warped, ["20190401"], "2019", "min")
    new = {ref.id for ref in tagged(warped)}
    assert len(new) == 4
    assert len(new - old) == 1  # the newer warp took the older one's place


def test_what_a_night_no_longer_gives_leaves(warped):
    associate_coadd_inputs(warped, ["20190401"], "2019", "min")
    counts = associate_coadd_inputs(warped, ["20190401"], "2019", "min", where="visit=845005")
    assert counts["deepCoadd_directWarp"] == len(tagged(warped)) == 2
    assert {ref.dataId["visit"] for ref in tagged(warped)} == {845005}
    assert {ref.dataId["visit"] for ref in tagged(warped, "preSourceTable_visit")} == {845005}


def test_nights_are_recorded_by_subset(warped):
    assert coadd_nights(warped, "2019", "min") == []
    associate_coadd_inputs(warped, ["20190401"], "2019", "min", where="visit=845005")
    assert coadd_nights(warped, "2019", "min") == ["20190401"]
    assert coadd_nights(warped, "2019", "mean") == []
    assert warped.settings.coadd_inputs[TAG]["where"] == "visit=845005"


def test_nights_can_join_those_recorded(warped):
    associate_coadd_inputs(warped, ["20190401"], "2019", "min")
    associate_coadd_inputs(warped, [], "2019", "min", add=True)
    assert coadd_nights(warped, "2019", "min") == ["20190401"]
    assert len(tagged(warped)) == 4


def test_warps_on_another_skymap_stay_out(warped, exposures):
    from proc_decam_dagster.repository import add_discrete_skymap

    add_discrete_skymap(warped, exposures)
    with pytest.raises(SurveyError, match="have no deepCoadd_directWarp.*step3a"):
        associate_coadd_inputs(warped, ["20190401"], "2019", "min")


def test_night_without_a_chain_names_the_command(warped):
    with pytest.raises(SurveyError, match="night 20190402 has no collection 20190402/drp; run `proc-decam pipeline"):
        associate_coadd_inputs(warped, ["20190401", "20190402"], "2019", "min")


def test_unknown_template_type(warped):
    with pytest.raises(SurveyError, match="template type 'max'"):
        associate_coadd_inputs(warped, ["20190401"], "2019", "max")


def test_associate_any_datasets(night):
    assert associate(night, "u/me/some", ["raw"], ["20190401/bias/raw"], where="detector=1") == 2
    assert associate(night, "u/me/some", ["raw"], ["20190401/bias/raw"], where="detector=1") == 2
    assert len(night.butler().query_datasets("raw", "u/me/some")) == 2


@pytest.mark.parametrize(
    ("name", "collection", "message"),
    [("raw", "none", "collection none does not exist"), ("none", "DECam/raw/all", "dataset type none does not exist")],
)
def test_associate_what_does_not_exist(night, name, collection, message):
    with pytest.raises(SurveyError, match=message):
        associate(night, "u/me/some", [name], [collection])


def test_associate_into_a_collection_of_another_type(night):
    with pytest.raises(SurveyError, match="is a RUN"):
        associate(night, "DECam/raw/all", ["raw"], ["20190401/bias/raw"])
