"""A repository laid out as the replaced system lays it out is gone on with: same collections, nothing moved."""

import subprocess
import sys

import pytest
from lsst.daf.butler import Butler, CollectionType, Timespan
from stack_fixture import stack_set_up

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import (
    coadd_nights,
    create_repository,
    ingest_raws,
    open_repository,
    tag_raws,
    take_over,
    update_chain,
)
from proc_decam_dagster.repository.raws import ingested_exposures

NIGHT = "20190401"
RUNS = {
    "bias": ("20190401/bias/bias/step1/20240901T120000Z", "20190401/bias/bias/step2/20240901T130000Z"),
    "drp": ("20190401/drp/DRP/step1/20240902T120000Z", "20190401/drp/DRP/step3a/20240902T150000Z"),
    "coadd": ("2019/meanclip/coadd/meanclip-template/step3b/20240903T120000Z",),
    "diff_drp": ("20190401/2019/meanclip/diff_drp/DRP/step4a/20240904T120000Z",),
}
CHAINS = {
    "20190401/bias": (*RUNS["bias"][::-1], "DECam/calib", "20190401/bias/raw"),
    "20190401/drp": (
        *RUNS["drp"][::-1], "fakes", "refcats", "skymaps", "20190401/calib/flat", "20190401/calib/bias",
        "DECam/calib_bpm", "DECam/calib", "20190401/drp/raw",
    ),
    "2019/meanclip/coadd": (*RUNS["coadd"], "2019/meanclip/coadd/inputs", "skymaps", "refcats"),
    "20190401/2019/meanclip/diff_drp": (*RUNS["diff_drp"], "2019/meanclip/coadd", "20190401/drp"),
    "2019*/drp/drp": (),  # what its `coadd "2019*/drp"` leaves behind
}  # fmt: skip
"""Chains as its `collection` command makes them: RUNs, the newest first, then the inputs in its order."""


@pytest.fixture
def stack(monkeypatch, tmp_path):
    with stack_set_up(monkeypatch, tmp_path):
        yield


@pytest.fixture
def old(stack, tmp_path, exposures, image_dir, put):
    """A repository with no file of ours, made with the stack alone."""
    import shutil

    made = create_repository(tmp_path / "repo", engine="science-pipelines", exposures=exposures)
    ingest_raws(made, exposures, image_dir)
    for proc_type in ("bias", "drp"):
        tag_raws(made, NIGHT, proc_type)
    butler = made.butler(writeable=True)
    register = butler.collections.register
    for run in ("fakes", "refcats/ps1", *(run for runs in RUNS.values() for run in runs)):
        register(run, CollectionType.RUN)
    for name in ("DECam/calib_bpm", "20190401/calib/bias", "20190401/calib/flat"):
        register(name, CollectionType.CALIBRATION)
    register("refcats", CollectionType.CHAINED)
    butler.collections.redefine_chain("refcats", ["refcats/ps1"])
    register("2019/meanclip/coadd/inputs", CollectionType.TAGGED)
    made.engine.define_visits(butler, [845005, 845006], "discrete")
    warp = put(
        made, "deepCoadd_directWarp", RUNS["drp"][1], ("instrument", "skymap", "tract", "patch", "visit"),
        skymap="discrete", tract=0, patch=0, visit=845005,
    )  # fmt: skip
    butler.registry.associate("2019/meanclip/coadd/inputs", [warp])
    master = put(made, "bias", RUNS["bias"][1], ("instrument", "detector"), is_calibration=True, detector=1)
    butler.registry.certify("20190401/calib/bias", [master], Timespan(None, None))
    for chain, children in CHAINS.items():
        register(chain, CollectionType.CHAINED)
        butler.collections.redefine_chain(chain, children)
    made.close()
    shutil.rmtree(made.state_dir)
    return made.root


def content(root):
    """Return all collections with their children, and the number of datasets."""
    butler = Butler.from_config(str(root))
    info = {i.name: (i.type, i.children) for i in butler.collections.query_info("*", flatten_chains=False)}
    return info, len(butler.query_all_datasets("*", find_first=False, limit=None))


def test_what_is_there_is_found_and_nothing_is_changed(old, exposures):
    before = content(old)
    found = take_over(old, exposures=exposures)
    assert content(old) == before
    assert found.chains == {"bias": 1, "drp": 1, "coadd": 1, "diff_drp": 1}
    assert (found.skymap, found.nights, found.unknown) == ("discrete", [NIGHT], ["2019*/drp/drp"])
    assert found.coadds == {"2019/meanclip/coadd/inputs": [NIGHT]}
    told = " ".join(found.notes)
    assert "run step3a of each night again" in told and "butler remove-runs" in told and "2019*/drp/drp" in told
    assert "exposure table" not in told


def test_its_collections_are_ours(old, exposures):
    take_over(old, exposures=exposures)
    repo = open_repository(old)
    before = content(old)
    assert update_chain(repo, "bias", NIGHT) == "20190401/bias"
    assert update_chain(repo, "drp", NIGHT) == "20190401/drp"
    assert update_chain(repo, "coadd", "", "2019", "meanclip") == "2019/meanclip/coadd"
    assert update_chain(repo, "diff_drp", NIGHT, "2019", "meanclip") == "20190401/2019/meanclip/diff_drp"
    assert tag_raws(repo, NIGHT, "bias") == 4
    assert content(old) == before  # the same chains in the same order, the same tags
    assert coadd_nights(repo, "2019", "meanclip") == [NIGHT]
    assert ingested_exposures(repo, exposures["EXPNUM"]) == set(exposures["EXPNUM"])
    assert repo.butler().get("bias", instrument="DECam", detector=1, collections="20190401/calib/bias")
    repo.close()


def test_it_goes_on_where_the_other_stopped(old, exposures, image_dir):
    take_over(old, exposures=exposures)
    repo = open_repository(old)
    assert ingest_raws(repo, exposures, image_dir).existing == len(exposures)  # none is ingested twice
    newer = "20190401/bias/bias/step2/20260101T000000Z"
    repo.butler(writeable=True).collections.register(newer, CollectionType.RUN)
    update_chain(repo, "bias", NIGHT)
    assert list(repo.butler().collections.get_info("20190401/bias").children) == [newer, *CHAINS["20190401/bias"]]
    repo.close()


def test_it_may_be_taken_over_twice(old, exposures):
    take_over(old, exposures=exposures)
    repo = open_repository(old)
    settings = repo.settings
    assert take_over(old).skymap == "discrete"
    assert repo.settings == settings and repo.exposures() is not None
    repo.close()


def test_which_of_several_skymaps_is_meant_must_be_said(old, exposures):
    butler = Butler.from_config(str(old), writeable=True)
    butler.registry.insertDimensionData(
        "skymap", {"name": "other", "hash": b"1" * 20, "tract_max": 1, "patch_nx_max": 1, "patch_ny_max": 1}
    )
    with pytest.raises(SurveyError, match="has the skymaps discrete, other.*--skymap NAME"):
        take_over(old)
    with pytest.raises(SurveyError, match="skymap 'none' is not in.*one of discrete, other"):
        take_over(old, skymap="none")
    assert take_over(old, skymap="other").skymap == "other"


def test_the_command_tells_what_it_found_even_without_the_stack(old, exposures, tmp_path, monkeypatch):
    exposures.write(tmp_path / "exposures.ecsv")
    monkeypatch.delenv("PYTHONPATH")
    words = ["take-over", str(old), "--exposures", str(tmp_path / "exposures.ecsv")]
    ran = subprocess.run(
        [sys.executable, "-m", "proc_decam_dagster.cli.main", *words], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "skymap discrete; 1 nights; chains: 1 coadd, 1 diff_drp, 1 bias, 1 drp" in ran.stdout
    assert "2019/meanclip/coadd/inputs: warps of 20190401" in ran.stdout
    assert "note: fakes is a RUN" in ran.stderr
