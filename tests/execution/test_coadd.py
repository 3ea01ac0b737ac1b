"""Which nights a coadd takes."""

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import coadd
from proc_decam_dagster.execution.coadd import coadd_subset_nights, run_coadd


@pytest.fixture
def nights(repository):
    for name in ("20180105/drp", "20190401/drp", "20190403/drp", "20190401/2019/mean/diff_drp", "20190402/bias"):
        repository.butler(writeable=True).collections.register(name, CollectionType.CHAINED)
    return repository


@pytest.mark.parametrize("pattern", ["2019*/drp", "2019*", "2019.*", "2019040[13]"])
def test_pattern_with_and_without_the_proc_type(nights, pattern):
    assert coadd_subset_nights(nights, pattern) == ["20190401", "20190403"]


def test_nothing_that_matches_is_an_error(nights, repository):
    with pytest.raises(SurveyError, match="20180105, 20190401, 20190403"):
        coadd_subset_nights(nights, "2020*")


def test_no_processed_night(repository):
    with pytest.raises(SurveyError, match="no processed night"):
        coadd_subset_nights(repository, "2019*")


def test_inputs_are_gathered_before_the_steps_run(nights, monkeypatch):
    calls = []
    monkeypatch.setattr(coadd, "associate_coadd_inputs", lambda *args: calls.append(args[1:]))
    monkeypatch.setattr(coadd, "limit_warps", lambda *args: calls.append(("limit", *args[1:])))
    monkeypatch.setattr(coadd, "run_pipeline", lambda *args, **options: calls.append((args[1:], options)))
    run_coadd(nights, "2019*/drp", "2019", "meanclip", warp_coadd_name="deep", where="tract=1", max_warps=9, jobs=3)
    assert calls == [
        (["20190401", "20190403"], "2019", "meanclip", "deep", "tract=1"),
        ("limit", "2019", "meanclip", 9),
        (("coadd",), {"coadd_subset": "2019", "template_type": "meanclip", "where": "tract=1", "jobs": 3}),
    ]


def test_another_warp_name_reaches_the_pipeline(nights, monkeypatch):
    calls = []
    monkeypatch.setattr(coadd, "associate_coadd_inputs", lambda *args: None)
    monkeypatch.setattr(coadd, "limit_warps", lambda *args: None)
    monkeypatch.setattr(coadd, "run_pipeline", lambda *args, **options: calls.append(options["config"]))
    run_coadd(nights, "2019*", "2019", "mean", warp_coadd_name="shallow", config={"detection:threshold": 4})
    assert calls == [{"parameters:coaddName": "shallow", "detection:threshold": 4}]
