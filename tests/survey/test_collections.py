"""Collection names: made and parsed back."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proc_decam_dagster.survey.collections import (
    Chain,
    calib_collection,
    chain_name,
    coadd_inputs_collection,
    parse_chain,
    raw_collection,
    run_name,
)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("bias", "20190401"), "20190401/bias"),
        (("drp", "20190401"), "20190401/drp"),
        (("coadd", "", "2019", "meanclip"), "2019/meanclip/coadd"),
        (("diff_drp", "20190401", "2019", "meanclip"), "20190401/2019/meanclip/diff_drp"),
    ],
)
def test_chain_names_of_the_reference(parts, name):
    assert chain_name(*parts) == name
    assert parse_chain(name) == Chain(*parts)


WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1)


@given(subset=WORD, coadd_subset=WORD, template_type=WORD)
def test_every_chain_is_parsed_back(subset, coadd_subset, template_type):
    for chain in (
        Chain("flat", subset),
        Chain("coadd", "", coadd_subset, template_type),
        Chain("diff_drp", subset, coadd_subset, template_type),
    ):
        assert parse_chain(str(chain)) == chain


@pytest.mark.parametrize(
    "name", ["", "bias", "20190401/calib/bias", "20190401/coadd", "a/diff_drp", "a/b/c/d/drp", "/drp"]
)
def test_other_collections_are_no_chains(name):
    with pytest.raises(ValueError, match="not the name of a processing chain"):
        parse_chain(name)


def test_run_stamp_is_utc_whatever_the_zone():
    chile = timezone(timedelta(hours=-4))
    when = datetime(2019, 4, 1, 22, 30, 5, tzinfo=chile)
    assert run_name("20190401/bias", "bias", "step1", when) == "20190401/bias/bias/step1/20190402T023005Z"
    assert run_name("x", "p", "s").rpartition("/")[2] <= datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def test_names_of_tags_and_calibrations():
    assert raw_collection("20190401", "drp") == "20190401/drp/raw"
    assert calib_collection("20190401", "bias") == "20190401/calib/bias"
    assert coadd_inputs_collection("2019", "min") == "2019/min/coadd/inputs"
