"""Settings: the packaged file, a site file on top, variables, and mistakes in them."""

import subprocess
import sys
from pathlib import Path

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.bps.configuration import (
    SITE_VARIABLE,
    environment,
    load_settings,
    workflow_environment,
)

EXAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "sites").glob("*.yaml"))


@pytest.fixture(autouse=True)
def no_site(monkeypatch):
    monkeypatch.delenv(SITE_VARIABLE, raising=False)


def site_file(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(text)
    return path


def test_packaged_sites():
    assert load_settings().site == "local" and load_settings("slurm").site == "slurm"
    assert load_settings("slurm").workers == 32
    assert load_settings().memory_mb("anything") == 4096


def test_a_site_file_overrides_and_takes_variables(tmp_path, monkeypatch):
    path = site_file(
        tmp_path,
        "computeSite: mine\nrequestMemory: 2000\npipetask: {warp: {requestMemory: 9000}}\n"
        "site:\n  mine: {class: a.b.Slurm, account: '${THEIR_ACCOUNT}', cores_per_node: '${CORES:-4}', nodes: 3}\n",
    )
    with pytest.raises(SurveyError, match="needs THEIR_ACCOUNT, which is not set"):
        load_settings(path)
    monkeypatch.setenv("THEIR_ACCOUNT", "survey")
    settings = load_settings(path)
    assert (settings.site, settings.workers) == ("mine", 12)
    assert settings.values["site"]["mine"]["account"] == "survey"
    assert settings.memory_mb("isr") == 2000 and settings.memory_mb("warp") == 9000
    # --slurm means the user's own Slurm site; --provider local still means this machine.
    monkeypatch.setenv(SITE_VARIABLE, str(path))
    assert [load_settings(name).site for name in ("", "slurm", "local")] == ["mine", "mine", "local"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("computeSite: nowhere\n", "computeSite is 'nowhere'; expected one of local, slurm"),
        ("a: [\n", "cannot be read"),
        ("just words\n", "holds no settings"),
    ],
)
def test_mistakes_are_told(tmp_path, text, message):
    with pytest.raises(SurveyError, match=message):
        load_settings(site_file(tmp_path, text))


def test_a_memory_that_is_no_number_is_told(tmp_path):
    with pytest.raises(SurveyError, match="requestMemory of submit.yaml is 'much'; expected a whole number"):
        load_settings(site_file(tmp_path, "requestMemory: much\n")).memory_mb("isr")


def test_own_submit_file_replaces_the_packaged_one(tmp_path):
    (tmp_path / "submit.yaml").write_text(
        "wmsServiceClass: x.Y\ncomputeSite: here\nrequestMemory: 1\nsite: {here: {class: a.B, cores: 7}}\n"
    )
    settings = load_settings(pipeline_dir=tmp_path)
    assert settings.workers == 7 and settings.values["wmsServiceClass"] == "x.Y"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_are_complete(path, monkeypatch):
    for name in ("ACCOUNT", "PARTITION", "ENVIRONMENT"):
        monkeypatch.setenv(f"PROC_DECAM_{name}", "x")
    settings = load_settings(path)
    assert settings.workers > 1
    for job in ("workflowJob", "driverJob"):
        if job in settings.values:
            lines = settings.values[job]["options"].splitlines()
            assert lines and all(line.startswith("#SBATCH --") for line in lines)


def test_what_bps_needs_is_in_the_environment(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    ours = environment()
    assert (Path(ours["CTRL_MPEXEC_DIR"]) / "bin" / "pipetask").exists()
    assert "PYTHONDONTWRITEBYTECODE" not in ours and ours["OMP_NUM_THREADS"]


def test_programs_of_parsl_leave_out_the_client_of_kubernetes():
    import kubernetes

    assert kubernetes.__file__  # it is installed, with Dagster's launcher
    program = "import sys, parsl; print(any(name.startswith('kubernetes') for name in sys.modules))"
    run = [sys.executable, "-c", program]
    assert (
        subprocess.run(run, env=workflow_environment(), capture_output=True, text=True, check=True).stdout == "False\n"
    )
