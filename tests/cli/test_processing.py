"""What the processing commands ask of the functions below, checked against those functions' own signatures."""

import inspect
import os
from dataclasses import dataclass, field

import pytest
from click.testing import CliRunner

from proc_decam_dagster import execution, repository
from proc_decam_dagster.cli.main import main
from proc_decam_dagster.execution.report import (
    NightReport,
    PipelineReport,
    Progress,
    QuantumFailure,
    StepReport,
    TaskCounts,
)
from proc_decam_dagster.repository import CertifyReport
from proc_decam_dagster.survey.exposures import write_exposures

from .conftest import proc_decam

FAILURE = QuantumFailure(
    "cpBiasIsr", {"instrument": "DECam", "detector": 2, "exposure": 7}, "MemoryError", "no memory", True, 3, "J=1 again"
)


def step_report(step="step1", chain="20190401/bias", failed=0) -> StepReport:
    counts = TaskCounts(succeeded=4, failed=failed, blocked=failed)
    return StepReport(
        step, chain, run=f"{chain}/bias/{step}/20190402T000000Z", tasks={"cpBiasIsr": counts}, quanta=4 + failed,
        failures=[FAILURE] * failed, seconds=2.0, peak_rss_gb=0.5,
    )  # fmt: skip


@dataclass
class Called:
    """Calls of the functions below, each bound to the real function's parameters."""

    calls: list[tuple[str, dict]] = field(default_factory=list)
    failed: int = 0

    def named(self, name: str) -> list[dict]:
        return [arguments for called, arguments in self.calls if called == name]


@pytest.fixture
def below(monkeypatch) -> Called:
    """The functions below in place of which calls are recorded; a call that the real one would not take fails."""
    called = Called()
    forwarded = {
        name: set().union(*(_names(getattr(execution, n)) for n in chain))
        for name, chain in {
            "run_nights": ("run_night", "run_pipeline", "run_step"), "run_coadd": ("run_pipeline", "run_step"),
            "run_pipeline": ("run_step",), "run_step": (),
        }.items()
    }  # fmt: skip

    def record(name: str, result):
        real = getattr(execution, name)
        signature = inspect.signature(real)

        def function(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            extra = arguments.pop("options", {})
            assert set(extra) <= forwarded[name], f"{name} does not know {set(extra) - forwarded[name]}"
            called.calls.append((name, arguments | extra))
            progress = (arguments | extra).get("progress")
            if progress:
                progress(Progress("step1", "cpBiasIsr", 4, 4, 0, 0, 1.0, 0.0))
            return result(arguments | extra)

        monkeypatch.setattr(execution, name, function, raising=False)

    def pipeline_report(a):
        chain = f"{a.get('subset') or a.get('coadd_subset')}/{a.get('proc_type', 'coadd')}"
        return PipelineReport(chain, [step_report(chain=chain, failed=called.failed)])

    def night_reports(a):
        reports = [
            NightReport(n, p, PipelineReport(f"{n}/{p}", [step_report(chain=f"{n}/{p}", failed=called.failed)]))
            for n in a["nights"] for p in a["proc_types"]
        ]  # fmt: skip
        for report in reports:
            a["finished"](report)
        return reports

    record("run_step", lambda a: step_report(a["step"], failed=called.failed))
    record("run_pipeline", pipeline_report)
    record("run_coadd", pipeline_report)
    record("run_nights", night_reports)
    return called


def _names(function) -> set[str]:
    return set(inspect.signature(function).parameters) - {"options", "repository"}


class KnownTable:
    """A repository that knows two nights."""

    root = "repo"

    def __init__(self, table) -> None:
        self.table, self.remembered = table, None

    def known_exposures(self):
        return self.table

    def remember_exposures(self, table) -> None:
        self.remembered = table


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """A folder with an exposure table of two nights and images, and a stand-in for the repository."""
    from astropy.table import Table

    names = ("obs_type", "caldat", "md5sum", "archive_filename", "EXPNUM", "night", "band")
    rows = [("object", "2019-04-01", f"{n:032x}", "a.fits.fz", n, n, "VR") for n in (20190401, 20190402)]
    table = Table(rows=rows, names=names)
    write_exposures(table, tmp_path / "data" / "exposures.ecsv")
    (tmp_path / "data" / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("J", raising=False)
    repo = KnownTable(table)
    monkeypatch.setattr(repository, "open_repository", lambda root: repo)
    return repo


def test_night_with_a_table_as_typed(below, opened, tmp_path):
    where = "instrument='DECam' and detector=1"
    proc_decam(f'night ./repo ./data/exposures.ecsv --nights 20190401 --where "{where}" -J 4', J="24")
    (call,) = below.named("run_nights")
    assert call["nights"] == ["20190401"] and call["proc_types"] == ["bias", "flat", "drp"]
    assert call["executions"] == 1 and call["jobs"] == 24 and call["where"] == where and call["science"] == "clean"
    assert call["image_dir"] == tmp_path / "data" / "images" and len(call["exposures"]) == 2
    assert opened.remembered is not None


def test_a_master_of_few_frames_is_certified_when_told(below, opened):
    from proc_decam_dagster.survey.proc_types import MIN_FRAMES

    proc_decam("night ./repo 20190401 --proc-types bias --min-frames 3")
    assert below.named("run_nights")[0]["min_frames"] == 3
    assert f"[default: {MIN_FRAMES}; x>=1]" in " ".join(proc_decam("night --help").stdout.split())
    assert "--min-frames" in proc_decam("night ./repo 20190401 --min-frames 0", 2).stderr


def test_night_without_J_shares_the_cores(below, opened, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    proc_decam("night ./repo ./data/exposures.ecsv --nights '2019*' -J 4 --proc-types science")
    (call,) = below.named("run_nights")
    assert call["nights"] == ["20190401", "20190402"] and (call["executions"], call["jobs"]) == (2, 4)
    assert call["proc_types"] == ["drp"]  # science is drp, and is ingested like it


def test_night_of_a_known_table_as_typed(below, opened):
    proc_decam("night ./repo 20190401 --proc-type diff_drp --coadd-subset 2019 --template-type meanclip")
    (call,) = below.named("run_nights")
    assert call["nights"] == ["20190401"] and call["proc_types"] == ["diff_drp"] and call["exposures"] is None
    assert (call["coadd_subset"], call["template_type"]) == ("2019", "meanclip")
    assert "no night matches '20300101'" in proc_decam("night ./repo 20300101", 1).stderr


@pytest.mark.parametrize("line", ["pipeline ./repo drp 20190401", "execute ./repo 20190401/drp"])
def test_injected_images_of_what_has_none_are_refused_before_anything_runs(below, opened, line):
    done = proc_decam(f"{line} --science both", 1)
    assert "drp has no injected science images" in done.stderr
    assert below.calls == []


@pytest.mark.parametrize(
    ("science", "expected"),
    [
        ("clean", [(["drp", "diff_drp"], "clean")]),
        ("injected", [(["drp"], "clean"), (["diff_drp"], "injected")]),
        ("both", [(["drp", "diff_drp"], "clean"), (["diff_drp"], "injected")]),
    ],
)
def test_only_differences_know_injected_images(below, opened, science, expected):
    options = "--coadd-subset 2019 --template-type mean"
    proc_decam(f"night ./repo 20190401 --proc-types drp diff_drp {options} --science {science}")
    assert [(c["proc_types"], c["science"]) for c in below.named("run_nights")] == expected


def test_a_failed_night_is_told_and_fails(below, opened):
    below.failed = 1
    result = proc_decam("night ./repo 20190401 --proc-types bias,flat", 1)
    assert "failed: cpBiasIsr detector=2 exposure=7 (tried 3 times)" in result.stdout
    assert "cause: MemoryError: no memory" in result.stdout and "next:  J=1 again" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: 2 of 2 did not succeed (20190401 bias, 20190401 flat)")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("night ./repo 20190401 --proc-types dark", "proc type 'dark' is unknown"),
        ("night ./repo 20190401 --proc-type diff_drp", "was given no coadd_subset"),
        ("night ./repo 20190401 --proc-type diff_drp --coadd-subset a --template-type sum", "'sum' is unknown"),
        ("night ./repo absent.ecsv", "does not exist"),
        ("night ./repo ./data/exposures.ecsv --image-dir ./none", "image folder none does not exist"),
        ("pipeline ./repo bias 20190401 --steps 9", "bias has no step9"),
        ("pipeline ./repo coadd 2019", "no template_type"),
        ("execute ./repo nonsense", "is not the name of a chain"),
        ("coadd ./repo 2019* --template-type mean", "no coadd_subset"),
    ],
)
def test_mistakes_are_told_before_anything_runs(below, opened, line, told):
    result = proc_decam(line, 1)
    assert result.stderr.startswith("error: ") and told in result.stderr and not below.calls


def test_night_makes_no_coadds(below, opened):
    result = CliRunner().invoke(main, ["night", "./repo", "20190401", "--proc-types", "coadd"])
    assert result.exit_code == 2 and "proc-decam coadd" in result.output


def test_pipeline_as_typed(below, opened):
    where = "instrument='DECam' and detector=1"
    result = proc_decam(f'pipeline ./repo bias 20190401 --where "{where}"', J="24")
    (call,) = below.named("run_pipeline")
    assert (call["proc_type"], call["subset"], call["steps"], call["jobs"]) == ("bias", "20190401", None, 24)
    assert "cpBiasIsr" in result.stdout and "step1: 4/4" in result.stderr
    proc_decam("pipeline ./repo drp 20190401 --steps 2a step2b,2c")
    assert below.named("run_pipeline")[-1]["steps"] == ["2a", "step2b", "2c"]
    proc_decam("pipeline ./repo coadd 2019 --template-type min")
    assert below.named("run_pipeline")[-1]["coadd_subset"] == "2019"
    below.failed = 1
    assert proc_decam("pipeline ./repo bias 20190401", 1).stderr.splitlines()[-1].startswith("error: 20190401/bias is")


def test_execute_as_typed(below, opened):
    where = "instrument='DECam' and detector=1"
    proc_decam(f'execute ./repo 20190401/bias --pipeline pipelines/bias.yaml#step1 --where "{where}"')
    (call,) = below.named("run_step")
    assert (call["proc_type"], call["subset"], call["step"]) == ("bias", "20190401", "step1")
    assert call["pipeline"] == "pipelines/bias.yaml" and call["where"] == where
    assert call["skip_existing"] and call["skip_failures"] and call["loop"] and call["trigger_retry"]
    proc_decam("execute ./repo 20190401/bias --no-skip-existing --no-skip-failures --no-loop --no-trigger-retry")
    calls = below.named("run_step")[1:]
    assert [c["step"] for c in calls] == ["step1", "step2"]
    assert not any(c[k] for c in calls for k in ("skip_existing", "skip_failures", "loop", "trigger_retry"))
    below.failed = 1
    result = proc_decam("execute ./repo 20190401/bias --pipeline bias.yaml#step1", 1)
    assert "step1: 1 failed, 1 blocked" in result.stderr


@pytest.mark.parametrize("subset", ["2019*/drp", "2019*", "20190401", "2019040[12]"])
def test_coadd_as_typed_with_and_without_drp(below, opened, monkeypatch, subset):
    from proc_decam_dagster.execution import coadd

    monkeypatch.setattr(coadd, "drp_nights", lambda _: ["20190401", "20190402"])
    proc_decam(f'coadd ./repo "{subset}" --coadd-subset 2019 --template-type meanclip --warp-coadd-name deep')
    (call,) = below.named("run_coadd")
    assert call["subset_pattern"] == ("20190401" if subset == "20190401" else "20190401|20190402")
    assert (call["coadd_subset"], call["template_type"], call["warp_coadd_name"]) == ("2019", "meanclip", "deep")


def test_coadd_of_some_chains_where(below, opened, monkeypatch):
    from proc_decam_dagster.execution import coadd

    monkeypatch.setattr(coadd, "drp_nights", lambda _: ["20190401", "20190402"])
    line = "coadd ./repo 2019* --coadd-subset 2019 --template-type min --where 'patch=1'"
    proc_decam(f"{line} --collections 20190402/drp")
    (call,) = below.named("run_coadd")
    assert call["subset_pattern"] == "20190402" and call["where"] == "patch=1"
    assert "which SUBSET does not match" in proc_decam(f"{line} --collections 2018/drp", 1).stderr


def test_step_reports_of_nothing_to_do(capsys):
    from proc_decam_dagster.cli import show

    report = StepReport("step1", "20190401/bias", tasks={"cpBiasIsr": TaskCounts(skipped=4)})
    show.steps([report])
    assert "nothing to do" in capsys.readouterr().out
    show.certified(
        CertifyReport(
            "bias",
            "20190401/calib/bias",
            certified=[{"detector": 1}],
            kept=61,
            refused=[({"detector": 2}, "3 frames, fewer than 5")],
            withheld=[{"detector": 3}],
            replaced=["20190402"],
        )  # fmt: skip
    )
    out = capsys.readouterr().out
    assert "certified 1 bias into 20190401/calib/bias, in place of those of night 20190402, 61 others kept" in out
    assert "not certified: detector=2" in out and "withheld: 1 good ones" in out


def test_the_summary_tells_the_truth_of_each_night(capsys):
    from proc_decam_dagster.cli import show

    bad = PipelineReport("b/drp", [step_report(failed=1)], calibrations={"bias": "a (1 day earlier)", "flat": "own"})
    certified = CertifyReport("bias", "a/calib/bias", certified=[{"detector": d} for d in (1, 2)])
    show.nights(
        [
            NightReport("a", "bias", PipelineReport("a/bias", [step_report()], certified), seconds=2.0),
            NightReport("b", "drp", bad, seconds=3.0),
            NightReport("c", "bias", error="no\nraws"),
        ]
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["a", "bias", "4", "0", "0", "2", "2.0", "ok"]
    assert lines[2][:6] == ["b", "drp", "4", "1", "1", "-"] and "bias a (1 day earlier), flat own" in " ".join(lines[2])
    assert "step1: 1 failed, 1 blocked; first: cpBiasIsr detector=2" in " ".join(lines[2])
    assert lines[3] == ["c", "bias", "0", "0", "0", "-", "0.0", "no", "raws"]


@pytest.mark.parametrize(
    ("options", "nights", "days"),
    [
        ("", {}, 0),
        ("--calib-from 20190402", {"bias": "20190402", "flat": "20190402"}, 0),
        ("--calib-from bias=20190402 flat=20190405", {"bias": "20190402", "flat": "20190405"}, 0),
        ("--calib-policy nearest", {}, 7),
        ("--calib-within 3", {}, 3),
    ],
)
def test_calibration_policy_as_typed(below, opened, options, nights, days):
    proc_decam(f"night ./repo 20190401 --proc-types drp {options}")
    (call,) = below.named("run_nights")
    assert (call["calibrations"].nights, call["calibrations"].within_days) == (nights, days) and not call["partial"]
    proc_decam(f"pipeline ./repo flat 20190401 --partial {options}")
    (call,) = below.named("run_pipeline")
    assert call["calibrations"].nights == nights and call["partial"]


def test_wrong_calibration_policies_are_refused(below, opened):
    assert "'2019' is no night" in proc_decam("night ./repo 20190401 --calib-from 2019", 1).stderr
    assert (
        "but --calib-policy is own"
        in proc_decam("pipeline ./repo drp 20190401 --calib-policy own --calib-within 2", 2).output
    )
    assert not below.calls
