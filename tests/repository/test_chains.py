"""Processing chains: the newest RUN first, then the inputs in table order; nothing dropped in silence."""

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import update_chain
from proc_decam_dagster.repository.presence import has_collection
from proc_decam_dagster.survey.proc_types import PROC_TYPES

NIGHT = "20190401"


def children(repo, chain):
    return list(repo.butler().collections.get_info(chain).children)


def register(repo, name, kind=CollectionType.RUN):
    repo.butler(writeable=True).collections.register(name, kind)


@pytest.mark.parametrize("name", ["bias", "flat", "drp"])
def test_new_chain_is_the_table_row(night, name):
    chain = update_chain(night, name, NIGHT)
    assert chain == f"{NIGHT}/{name}"
    assert children(night, chain) == PROC_TYPES[name].input_collections(subset=NIGHT)


def test_science_is_drp(night):
    assert update_chain(night, "science", NIGHT) == f"{NIGHT}/drp"


def test_empty_inputs_have_the_right_type(night):
    update_chain(night, "drp", NIGHT)
    kinds = {i.name: i.type for i in night.butler().collections.query_info("*", flatten_chains=False)}
    assert kinds["fakes"] is kinds["refcats"] is CollectionType.CHAINED
    for name in ("DECam/calib", "DECam/calib_bpm", f"{NIGHT}/calib/bias", f"{NIGHT}/calib/flat"):
        assert kinds[name] is CollectionType.CALIBRATION


def test_runs_come_newest_first_whatever_their_step(night):
    early, late, other = (
        f"{NIGHT}/bias/bias/{r}" for r in ("step2/20240101T000000Z", "step1/20240301T000000Z", "step1/20231231T235959Z")
    )
    for run in (early, late, other):
        register(night, run)
    register(night, f"{NIGHT}/bias_more/bias/step1/20250101T000000Z")  # of another chain
    chain = update_chain(night, "bias", NIGHT)
    assert children(night, chain)[:3] == [late, early, other]
    assert children(night, chain)[3:] == PROC_TYPES["bias"].input_collections(subset=NIGHT)


def test_a_new_run_goes_to_the_front(night):
    register(night, f"{NIGHT}/bias/bias/step1/20240101T000000Z")
    chain = update_chain(night, "bias", NIGHT)
    register(night, f"{NIGHT}/bias/bias/step2/20240102T000000Z")
    assert update_chain(night, "bias", NIGHT) == chain
    assert [c.rpartition("/")[2] for c in children(night, chain)[:2]] == ["20240102T000000Z", "20240101T000000Z"]


def test_what_somebody_added_stays_unless_overwritten(night):
    chain = update_chain(night, "bias", NIGHT)
    register(night, "u/somebody/bias")
    night.butler(writeable=True).collections.extend_chain(chain, "u/somebody/bias")
    update_chain(night, "bias", NIGHT)
    assert children(night, chain)[-1] == "u/somebody/bias"
    update_chain(night, "bias", NIGHT, overwrite=True)
    assert "u/somebody/bias" not in children(night, chain)


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (("bias", "20190402"), "proc-decam raw .* bias 20190402"),
        (("coadd", "", "2019", "min"), "proc-decam coadd .* --coadd-subset 2019 --template-type min"),
        (("diff_drp", NIGHT, "2019", "min"), "proc-decam coadd .* --coadd-subset 2019 --template-type min"),
    ],
)
def test_missing_input_names_the_command_that_makes_it(night, args, command):
    with pytest.raises(SurveyError, match=f"does not exist; run `{command}"):
        update_chain(night, *args)
    assert not has_collection(night.butler(), PROC_TYPES[args[0]].chain(*args[1:]))


def test_difference_without_drp_names_the_command(night):
    register(night, "2019/min/coadd", CollectionType.CHAINED)
    with pytest.raises(SurveyError, match="proc-decam pipeline .* drp 20190401"):
        update_chain(night, "diff_drp", NIGHT, "2019", "min")


def test_difference_chain_reaches_the_template_and_the_night(night):
    update_chain(night, "drp", NIGHT)
    register(night, "2019/min/coadd", CollectionType.CHAINED)
    chain = update_chain(night, "diff_drp", NIGHT, "2019", "min")
    assert chain == f"{NIGHT}/2019/min/diff_drp"
    assert children(night, chain) == ["2019/min/coadd", f"{NIGHT}/drp"]


def test_a_collection_of_another_type_in_the_way(night):
    register(night, f"{NIGHT}/bias", CollectionType.TAGGED)
    with pytest.raises(SurveyError, match="is a TAGGED"):
        update_chain(night, "bias", NIGHT)


def test_raws_are_found_through_the_chain(night):
    chain = update_chain(night, "bias", NIGHT)
    assert {r.dataId["exposure"] for r in night.butler().query_datasets("raw", chain)} == {845001, 845002}
