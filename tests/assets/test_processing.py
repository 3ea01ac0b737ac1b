"""What makes an asset red, and what it then says."""

import dagster as dg
import pytest

from proc_decam_dagster.assets.processing import Processing, judge
from proc_decam_dagster.execution.report import PipelineReport, QuantumFailure, StepReport, TaskCounts


def _report(**counts: int) -> PipelineReport:
    failed = QuantumFailure(
        "isr", {"exposure": 1, "detector": 3}, "RuntimeError", "no bias | at all", False, 1, "proc-decam night …"
    )
    step = StepReport("step1", "20190401/drp", tasks={"isr": TaskCounts(**counts)})
    step.failures = [failed] * counts.get("failed", 0)
    return PipelineReport("20190401/drp", [step])


def test_all_succeeded_is_green():
    judge(_report(succeeded=10, skipped=5), Processing())


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
    judge(_report(succeeded=9, failed=1), Processing(tolerated_failures=0.1))
    with pytest.raises(dg.Failure):
        judge(_report(succeeded=8, failed=2), Processing(tolerated_failures=0.1))


def test_a_pipeline_that_stopped_is_red():
    report = _report(succeeded=3)
    report.stopped = "step2a cannot run"
    with pytest.raises(dg.Failure, match="step2a cannot run"):
        judge(report, Processing())


@pytest.mark.parametrize("wrong", [{"tolerated_failures": -0.1}, {"tolerated_failures": 2}])
def test_wrong_configuration_is_refused(wrong):
    with pytest.raises(Exception, match="tolerated_failures"):
        Processing(**wrong)
