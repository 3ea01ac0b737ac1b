"""Options on where quanta run: which back end they mean, and which lines are refused."""

import click
import pytest
from click.testing import CliRunner

from proc_decam_dagster.cli.batch import _site, batch_options
from proc_decam_dagster.cli.common import attempt_options, command, pipeline_dir_option, repo_argument
from proc_decam_dagster.cli.main import main


@command("try", example="")
@repo_argument
@pipeline_dir_option
@attempt_options
@batch_options
def attempt(repo, pipeline_dir, attempts) -> None:
    back_end = attempts.get("backend", "local")
    click.echo(back_end if isinstance(back_end, str) else f"{back_end.name} {back_end.site!r}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "local"), ("--backend local", "local"), ("--backend bps", "bps ''"), ("--provider local", "bps 'local'"),
        ("--site ours.yaml", "bps 'ours.yaml'"), ("--backend bps --site ours.yaml", "bps 'ours.yaml'"),
    ],
)  # fmt: skip
def test_what_options_mean(line, expected):
    result = CliRunner().invoke(attempt, ["repo", *line.split()], catch_exceptions=False)
    assert result.exit_code == 0 and result.output.strip() == expected


def test_slurm_and_provider_slurm_are_the_same():
    assert _site(None, None, True, None) == _site(None, None, False, "slurm") == "slurm"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--provider EpycProvider", "expected local or slurm"),
        ("--slurm --site ours.yaml", "name different sites: ours.yaml, slurm"),
        ("--backend local --slurm", "leave one of the two out"),
    ],
)
def test_lines_that_contradict_themselves(line, message):
    result = CliRunner().invoke(attempt, ["repo", *line.split()])
    assert result.exit_code == 2 and message in result.output


@pytest.mark.parametrize("option", ["--slurm", "--pipeline-slurm"])
def test_without_slurm_it_says_so(option, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = CliRunner().invoke(attempt, ["repo", option])
    assert result.exit_code == 1 and "error: there is no sbatch here" in result.output


def test_cancel_without_anything_to_cancel(tmp_path):
    assert CliRunner().invoke(main, ["create", str(tmp_path / "repo")]).exit_code == 0
    result = CliRunner().invoke(main, ["cancel", str(tmp_path / "repo"), "20190401/bias"])
    assert result.exit_code == 1 and "error: BPS runs nothing of 20190401/bias" in result.output
