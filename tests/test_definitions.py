"""The code location loads, quickly and without the middleware, and is valid."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_workspace_is_valid(tmp_path):
    command = [Path(sys.executable).parent / "dagster", "definitions", "validate", "-w", ROOT / "workspace.yaml"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={"PATH": "/usr/bin:/bin", "DAGSTER_HOME": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Validation successful" in done.stdout + done.stderr


def test_loading_imports_nothing_that_only_the_work_needs():
    code = (
        "import sys, proc_decam_dagster.definitions; heavy = 'lsst astropy matplotlib numba numpy scipy sep'.split(); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_sensor_schedule_and_job_says_what_it_does():
    from proc_decam_dagster.definitions import build_definitions

    location = build_definitions()
    for definition in [*location.sensors, *location.schedules, *location.jobs]:
        assert len(definition.description.split()) > 5, definition.name


def test_instance_configuration_is_accepted(tmp_path):
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    code = "import dagster as dg; i = dg.DagsterInstance.get(); print(i.run_retries_enabled, type(i).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True,
        env={"PATH": "/usr/bin:/bin", "DAGSTER_HOME": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["True", "SurveyInstance"]
