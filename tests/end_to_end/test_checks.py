"""The asset checks on the processed sample survey: green as it is, red where limits or data are changed."""

import dagster as dg
import pytest
from sample_survey import copy_repository

from proc_decam_dagster.checks import CHECKS
from proc_decam_dagster.partitions import cell
from proc_decam_dagster.resources import ButlerRepository, Limits, Survey

ERROR = dg.AssetCheckSeverity.ERROR
BY_NAME = {spec.name: check for check in CHECKS for spec in check.check_specs if spec.asset_key.path[0] == "meanclip"}
BY_NAME |= {spec.name: check for check in CHECKS for spec in check.check_specs if len(spec.asset_key.path) == 1}


@pytest.fixture
def copy(sample, tmp_path):
    """A copy of the survey's repository, to be changed."""
    copy_repository(sample.repository, tmp_path / "repo")
    return ButlerRepository(root=str(tmp_path / "repo"))


def evaluate(name: str, sample, repository: ButlerRepository | None = None, **limits: float) -> dg.AssetCheckResult:
    """Return the result of a check for the survey's last night, or its one coadd subset."""
    check, night = BY_NAME[name], sample.nights[-1]
    (spec,) = check.check_specs
    partition = {"coadds": "2019", "diffs": cell(night, "2019")}.get(spec.asset_key.path[-1], night)
    resources = {
        "repository": repository or ButlerRepository(root=str(sample.repository)),
        "survey": Survey(data_dir=str(sample.folder / "data")),
        "limits": Limits(**{"free_gb": 0.0} | limits),
    }
    used = {k: v for k, v in resources.items() if k in check.required_resource_keys}
    return check(dg.build_op_context(partition_key=partition), **used)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_sample_survey_is_green(sample, name):
    result = evaluate(name, sample)
    assert result.passed, (result.description, result.metadata)


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("storage_budget", {"free_gb": 1e9}),
        ("storage_budget", {"storage_gb": 1e-6}),
        ("bias_levels", {"bias_change_adu": 0}),
        ("flat_levels", {"flat_change": 0}),
        ("astrometric_scatter", {"astrometry_mas": 1e-3}),
        ("photometric_scatter", {"photometry_mag": 1e-6}),
        ("psf_size", {"seeing_arcsec": 0.1}),
        ("template_depth", {"template_inputs": 99}),
        ("fakes_recovered", {"fakes_recovered": 1.1}),
    ],
)
def test_a_stricter_limit_is_red(sample, name, limits):
    assert not evaluate(name, sample, **limits).passed


def test_masters_that_are_gone_stop_the_night(sample, copy):
    from proc_decam_dagster.repository.certify import decertify

    decertify(copy.open(), f"{sample.nights[-1]}/calib/bias", "bias")
    result = evaluate("bias_certified", sample, copy)
    assert not result.passed and result.severity is ERROR and result.metadata["missing"].value


def test_what_is_excluded_is_neither_expected_nor_missing(sample, copy):
    from proc_decam_dagster.report import missing_calexps
    from proc_decam_dagster.repository.exclusions import exclude

    repo, night = copy.open(), sample.nights[-1]
    before, _ = missing_calexps(repo, night)
    exposure, frames = _first_science(repo, night)
    exclude(repo, "a dome that was closed", exposures=[exposure])
    result = evaluate("calexps_complete", sample, copy)
    assert result.passed and result.metadata["expected"].value == before - frames


def test_a_refused_detector_is_told(sample, copy):
    from proc_decam_dagster.repository.queries import find_refs

    repo, night = copy.open(), sample.nights[-1]
    butler = repo.butler(writeable=True)
    ref = find_refs(repo, "finalVisitSummary", f"{night}/drp")[0]
    summary = butler.get(ref)
    summary["accepted"], summary["reason"] = False, "stars trailed, ellipticity 0.41"
    butler.pruneDatasets([ref], disassociate=True, unstore=True, purge=True)
    butler.put(summary, ref)
    result = evaluate("detectors_accepted", sample, copy)
    assert not result.passed and result.severity is not ERROR
    assert f"| {ref.dataId['visit']} | {summary['detector'][0]} | stars trailed" in result.metadata["refused"].value


def test_a_late_frame_is_told(sample, copy):
    """A science raw that its chain has never seen: its calibration is taken out of the chain."""
    repo, night = copy.open(), sample.nights[-1]
    butler = repo.butler(writeable=True)
    late, frames = _first_science(repo, night)
    refs = butler.query_datasets("isr_metadata", f"{night}/drp", where=f"instrument='DECam' AND exposure={late}")
    butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
    result = evaluate("nothing_stale", sample, copy)
    assert not result.passed and f"| {night}/drp | {frames} | came after" in result.metadata["stale"].value


def _first_science(repo, night: str) -> tuple[int, int]:
    """Return a night's first science exposure, and how many detectors it has."""
    from proc_decam_dagster.repository.queries import find_refs

    exposures = [r.dataId["exposure"] for r in find_refs(repo, "raw", f"{night}/drp/raw")]
    return min(exposures), exposures.count(min(exposures))
