"""Engines: found by name and by instrument class; unknown ones and an absent stack are told in one line."""

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.engines import ENGINES, Engine, engine, engine_of_instrument


def test_the_instrument_class_decides():
    assert engine_of_instrument("proc_decam_dagster.instrument.DarkEnergyCamera").name == "embedded"
    assert engine_of_instrument("lsst.obs.decam.DarkEnergyCamera").name == "science-pipelines"


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_offers_the_whole_protocol(name):
    offered = engine(name)
    assert (offered.name, offered.instrument_class) == (name, ENGINES[name][0])
    for member in vars(Engine):
        if not member.startswith("_"):
            assert hasattr(offered, member), member


def test_unknown_engine():
    with pytest.raises(SurveyError, match="embedded, science-pipelines"):
        engine("banzai")


def test_unknown_instrument_class():
    with pytest.raises(SurveyError, match="lsst.obs.subaru.HyperSuprimeCam, made by an engine that is unknown"):
        engine_of_instrument("lsst.obs.subaru.HyperSuprimeCam")


def test_absent_stack_is_told():
    with pytest.raises(SurveyError, match="needs the LSST Science Pipelines, which are not set up"):
        engine("science-pipelines").require()


def test_the_embedded_engine_needs_nothing_more():
    engine("embedded").require()
