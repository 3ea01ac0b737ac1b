"""How checks grade a figure, what they hold a survey to, and what they say where there is no repository."""

import math

import dagster as dg
import pytest

from proc_decam_dagster.checks import CHECKS
from proc_decam_dagster.checks.check import complete, graded
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.resources import ButlerRepository, Limits

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize("name", ["bias_certified", "calexps_complete"])
def test_a_mistake_is_told_in_one_line(tmp_path, name):
    (check,) = [c for c in CHECKS if next(iter(c.check_keys)).name == name]
    context = dg.build_op_context(partition_key="20190401")
    with pytest.raises(dg.Failure) as failure:
        check(context, repository=ButlerRepository(root=str(tmp_path / "none")))
    assert "none is no Butler repository; expected a folder" in failure.value.description
    assert failure.value.__cause__ is None and failure.value.__suppress_context__


@pytest.mark.parametrize(
    ("value", "passed", "severity"),
    [(1, True, WARN), (2.5, False, WARN), (6.5, False, ERROR), (math.nan, False, ERROR)],
)
def test_beyond_a_limit_warns_and_far_beyond_or_unknown_stops(value, passed, severity):
    result = graded("seeing", value, 2.0, Limits())
    assert (result.passed, result.severity) == (passed, severity)
    assert ("not measured" in result.description) == math.isnan(value)


def test_nothing_expected_is_no_success():
    assert not complete(0, [], "certified", WARN).passed and complete(0, [], "certified", WARN).severity is ERROR
    assert complete(2, [], "certified", WARN).passed and not complete(2, [1], "certified", WARN).passed


def test_what_is_missing_is_told_in_place():
    result = complete(3, ["845000/25"], "frames are calibrated", ERROR)
    assert not result.passed and result.description == "2 of 3 frames are calibrated"
    assert {k: v.value for k, v in result.metadata.items()} == {"expected": 3, "found": 2, "missing": "845000/25"}
    assert complete(3, [], "frames are calibrated", ERROR).metadata["missing"].value == "none"


def test_limits_are_configured_by_the_environment(monkeypatch):
    monkeypatch.setenv("PROC_DECAM_LIMITS", "astrometry_mas=60, storage_gb=5000")
    limits = Limits.from_environment()
    assert (limits.astrometry_mas, limits.storage_gb, limits.seeing_arcsec) == (60, 5000, Limits().seeing_arcsec)


@pytest.mark.parametrize("wrong", ["seeing=2", "astrometry_mas=low", "astrometry_mas"])
def test_a_limit_that_is_none_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("PROC_DECAM_LIMITS", wrong)
    with pytest.raises(SurveyError, match=f"'{wrong}'; expected NAME=NUMBER with a name of .*astrometry_mas"):
        Limits.from_environment()


def test_every_check_blocks_and_has_the_partitions_of_its_asset():
    from proc_decam_dagster.definitions import build_definitions

    graph = build_definitions().resolve_asset_graph()
    for check in CHECKS:
        for spec in check.check_specs:
            assert spec.blocking and spec.partitions_def == graph.get(spec.asset_key).partitions_def
            assert spec.description
