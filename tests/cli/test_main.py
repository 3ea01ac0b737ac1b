"""What holds for every command: help, exit codes, one-line errors, options with several values."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from proc_decam_dagster.cli.common import Many, spread
from proc_decam_dagster.cli.main import COMMANDS, main
from proc_decam_dagster.errors import SurveyError

HEAVY = ("lsst", "numba", "astropy", "numpy", "requests", "dagster", "yaml")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example_that_parses(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0 and "Example:" in result.output and f"proc-decam {name} " in result.output
    assert "--debug" in result.output and "--log-level" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from proc_decam_dagster.cli.main import main, COMMANDS;"
        "[CliRunner().invoke(main, [*c, '--help']) for c in [[]] + [[n] for n in COMMANDS]];"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(HEAVY) & set(loaded)


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "proc_decam_dagster.cli.main", *words], capture_output=True, text=True, cwd=cwd
    )


def test_exit_codes_of_the_real_command(tmp_path):
    assert run("--version").stdout.startswith("proc-decam, version ")
    mistake = run("nights", "absent.ecsv", cwd=tmp_path)
    assert mistake.returncode == 1 and mistake.stdout == ""
    assert mistake.stderr.startswith("error: exposure table absent.ecsv does not exist; make it with")
    assert mistake.stderr.count("\n") == 1
    assert "Traceback" in run("nights", "absent.ecsv", "--debug", cwd=tmp_path).stderr
    assert run("night").returncode == 2 and run("nonsense").returncode == 2


def test_several_values_of_one_option():
    many = {"--steps": Many(["--steps"], accepts=str.isalnum), "-d": Many(["-d"])}
    assert spread(["repo", "--steps", "1", "2a", "./x", "-d", "a", "b", "--where", "c"], many) == (
        ["repo", "--steps", "1", "--steps", "2a", "./x", "-d", "a", "-d", "b", "--where", "c"]
    )
    assert spread(["--steps"], many) == ["--steps"]
    assert spread(["-d", "a", "--", "b", "c"], many) == ["-d", "a", "--", "b", "c"]

    @click.command()
    @click.option("--steps", cls=Many, split=True, default=["1", "2"])
    def show(steps):
        click.echo(",".join(steps))

    assert CliRunner().invoke(show, ["--steps", "1,2a", "--steps", "3b 4"]).output == "1,2a,3b,4\n"
    assert CliRunner().invoke(show, []).output == "1,2\n"


@pytest.mark.parametrize("jobs", ["0", "many", "-3"])
def test_a_wrong_J_is_a_usage_error(jobs, tmp_path):
    result = CliRunner().invoke(main, ["pipeline", str(tmp_path), "bias", "20190401"], env={"J": jobs})
    assert result.exit_code == 2 and f"J={jobs}" in result.output


def test_unexpected_errors_keep_their_traceback(monkeypatch, tmp_path):
    """Only what a user can mend is told in one line: a mistake of ours must be seen."""
    import proc_decam_dagster.survey.exposures as exposures

    for error, told in ((ValueError("ours"), False), (SurveyError("a", "b", "c"), True), (PermissionError("no"), True)):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(exposures, "read_exposures", fail)
        result = CliRunner().invoke(main, ["nights", str(tmp_path / "x")])
        assert result.exit_code == 1
        assert result.output.startswith("error: ") is told and (result.exception is error) is not told
