"""What makes an asset red, and what it then says."""

import dagster as dg
import pytest

from proc_decam_dagster.assets.forms import Calibration, Processing
from proc_decam_dagster.assets.presentation import report_metadata
from proc_decam_dagster.assets.processing import judge
from proc_decam_dagster.definitions import build_definitions
from proc_decam_dagster.execution.report import PipelineReport, QuantumFailure, StepReport, TaskCounts
from proc_decam_dagster.repository import CertifyReport


def _report(**counts: int) -> PipelineReport:
    failed = QuantumFailure(
        "isr", {"exposure": 1, "detector": 3}, "RuntimeError", "no bias | at all", False, 1, "proc-decam night …"
    )
    step = StepReport("step1", "20190401/drp", tasks={"isr": TaskCounts(**counts)})
    step.failures = [failed] * counts.get("failed", 0)
    return PipelineReport("20190401/drp", [step])


def test_all_succeeded_is_green():
    judge(_report(succeeded=10, skipped=5), Processing())


def test_memory_is_told_only_if_it_was_measured():
    report = _report(skipped=5)
    assert "peak_rss_gb" not in report_metadata(report)
    report.steps[0].peak_rss_gb = 0.5
    assert report_metadata(report)["peak_rss_gb"] == 0.5


@pytest.mark.parametrize("bad", [{"failed": 1}, {"blocked": 1}])
def test_one_bad_quantum_is_red(bad):
    with pytest.raises(dg.Failure, match="1 of 10 quanta"):
        judge(_report(succeeded=9, **bad), Processing())


def test_failures_are_in_the_metadata_with_cause_and_next_command():
    with pytest.raises(dg.Failure) as caught:
        judge(_report(succeeded=9, failed=1), Processing())
    table = caught.value.metadata["failures"].value
    assert "RuntimeError: no bias \\| at all" in table and "proc-decam night" in table
    assert "exposure=1, detector=3" in table


def test_tolerance_is_a_fraction_of_all_quanta():
    judge(_report(succeeded=9, failed=1), Processing(tolerated_failures="10%"))
    with pytest.raises(dg.Failure):
        judge(_report(succeeded=8, failed=2), Processing(tolerated_failures="10%"))


def test_a_pipeline_that_stopped_is_red():
    report = _report(succeeded=3)
    report.stopped = "step2a cannot run"
    with pytest.raises(dg.Failure, match="step2a cannot run"):
        judge(report, Processing())


def test_all_may_be_tolerated():
    judge(_report(failed=10), Processing(tolerated_failures="all"))


def test_calibrations_that_are_not_certified_are_red_unless_partial():
    report = _report(succeeded=10)
    report.certified = CertifyReport("bias", "n/calib/bias", refused=[({"detector": 2}, "no frames")])
    with pytest.raises(dg.Failure, match="not certified: detector 2: no frames"):
        judge(report, Calibration())
    with pytest.raises(dg.Failure, match="not certified"):  # not one master: nothing is there
        judge(report, Calibration(partial=True))
    report.certified.certified.append({"detector": 1})
    judge(report, Calibration(partial=True))


def test_whose_masters_were_used_is_in_the_metadata():
    report = _report(succeeded=10)
    assert "calibrations" not in report_metadata(report)
    report.calibrations = {"bias": "20190402 (1 day later)", "flat": "own"}
    assert report_metadata(report)["calibrations"] == "calibrations from: bias 20190402 (1 day later), flat own"


@pytest.mark.parametrize(
    ("asset", "wrong"),
    [
        ("bias", {"tolerated_failures": -0.1}),
        ("bias", {"tolerated_failures": "-1%"}),
        ("bias", {"calibrations": "nearest"}),
        ("bias", {"steps": ["step3"]}),
        ("bias", {"cores": "-1"}),
        ("bias", {"backend": "cluster"}),
        ("bias", {"detector": "1"}),
        ("flat", {"calibrations": "any"}),
        ("calexps", {"calibrations_within": "-1 days"}),
        ("calexps", {"calibrations_within": 3}),
        ("mean__diffs", {"science": "faked"}),
    ],
)
def test_wrong_configuration_is_refused_before_launch(asset, wrong):
    """What the launch dialog does: the run configuration against the job's schema, nothing of ours executed."""
    job = (
        build_definitions()
        .resolve_implicit_global_asset_job_def()
        .get_subset(asset_selection={dg.AssetKey(asset.split("__"))})
    )
    dg.validate_run_config(job, {"ops": {asset: {"config": {}}}})
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, {"ops": {asset: {"config": wrong}}})
