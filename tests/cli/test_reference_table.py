"""Each row of the reference's command table: names, positional arguments, flags and defaults."""

import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from proc_decam_dagster.cli.main import COMMANDS, main

PROC_DECAM = Path(sys.executable).parent / "proc-decam"
UNSET = object()
TEMPLATES = {"--template-type": "", "--coadd-subset": ""}
SLURM = {"--slurm": False, "--pipeline-slurm": False, "--provider": None}

TABLE = {
    "exposures": ("data_dir", {"-p": ("2019A-0337",), "--proposal-id": ("2019A-0337",), "--log-level": "INFO"}),
    "download": ("exposures_file", {"--download-dir": Path("."), "-j": 4, "--select": ()}),
    "defects": (
        "repo bpm_path",
        {
            "--calib-collection": "DECam/calib_bpm", "--run-prefix": "DECam/calib_bpm", "--bad-dataset": "defects",
            "--suspect-dataset": "suspectMask",
        },
    ),
    "refcats": ("repo exposures_file", {}),
    "fakes": ("repo fakes_file", {"--collection": "fakes"}),
    "ingest": (
        "exposures_file",
        {
            "-b": UNSET, "--image-dir": None, "--select": (), "--collection": "DECam/raw/all",
            "--collection-keys": ("night", "obs_type", "band"), "-J": 4, "--reingest": False,
        },
    ),
    "raw": ("repo obs_type night", {}),
    "associate": ("repo collection", {"-d": UNSET, "--collections": (), "--where": ""}),
    "collection": ("repo proc_type subset", TEMPLATES | {"--overwrite": False}),
    "decertify": ("repo collection dataset", {}),
    "qgraph": (
        "",
        {
            "-b": UNSET, "-p": UNSET, "-i": UNSET, "--output-run": None, "-d": "", "--skip-existing-in": None,
            "--skip-failures": False,
        },
    ),
    "execute": (
        "repo parent",
        {
            "--pipeline": None, "--where": "", "--no-skip-existing": False, "--no-skip-failures": False,
            "--no-loop": False, "--no-trigger-retry": False,
        },
    ),
    "retries": ("repo run", {}),
    "pipeline": ("repo proc_type subset", TEMPLATES | {"--steps": (), "--where": "", "--slurm": False, "-J": 4}),
    "night": (
        "repo exposures",
        TEMPLATES | SLURM | {
            "--nights": ".*", "--proc-types": ("bias", "flat", "drp"), "--proc-type": ("bias", "flat", "drp"),
            "--where": "", "-J": 4,
        },
    ),
    "coadd": (
        "repo subset", TEMPLATES | SLURM | {"--warp-coadd-name": "deep", "--where": "", "--collections": (), "-J": 4},
    ),
}  # fmt: skip
"""Command → (positional arguments, {option: default}); `UNSET`: a value must be given."""

VALUES = {
    "--log-level": "DEBUG", "--select": "night=1", "--steps": "1 2", "-d": "raw", "--collections": "a b",
    "--collection-keys": "night band", "--nights": "2019.*", "--where": "detector=1", "--template-type": "mean",
    "--proposal-id": "2019A-0337 2020A-0001", "-p": "2019A-0337", "--proc-types": "bias flat", "--proc-type": "bias",
    "--provider": "slurm",
}  # fmt: skip


def command_of(name: str) -> click.Command:
    return main.get_command(click.Context(main), name)


def test_every_row_is_a_command():
    assert {*TABLE, "db"} <= set(COMMANDS)


@pytest.mark.parametrize("name", TABLE)
def test_positional_arguments(name):
    command = command_of(name)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    assert [a.name for a in arguments] == TABLE[name][0].split() and all(a.required for a in arguments)


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, (_, options) in TABLE.items() for o in options])
def test_option_and_its_default(name, option):
    expected = TABLE[name][1][option]
    (parameter,) = [p for p in command_of(name).params if option in p.opts]
    if expected is UNSET:
        return
    if not parameter.expose_value:  # --log-level acts by itself
        assert parameter.default == expected
    else:
        assert parsed(name, needed(name)).params[parameter.name] == expected


def needed(name: str) -> list[str]:
    """Return the shortest line of a command: its arguments, and the options without which it refuses."""
    required = [p for p in command_of(name).params if isinstance(p, click.Option) and p.required]
    words = ["./x"] * len(TABLE[name][0].split())
    return words + [w for p in required for w in (p.opts[0], "y")]


def parsed(name: str, words: list[str]) -> click.Context:
    """Return the context of a line that is parsed, not run."""
    command = command_of(name)
    context = click.Context(command, info_name=name)
    command.parse_args(context, list(words))
    return context


@pytest.mark.parametrize("name", TABLE)
def test_a_line_with_every_option_is_understood(name):
    command, words = command_of(name), []
    for option in TABLE[name][1]:
        (parameter,) = [p for p in command.params if option in p.opts]
        words.append(option)
        if not parameter.is_flag:
            words += VALUES.get(option, "1").split()
    arguments = TABLE[name][0].split()
    params = parsed(name, ["./x"] * len(arguments) + words).params
    assert all(str(params[a]) == "x" or params[a] == "./x" for a in arguments)


@pytest.mark.parametrize("verb", ["create", "start", "stop"])
def test_db(verb):
    result = CliRunner().invoke(main, ["db", verb, "--help"])
    assert result.exit_code == 0 and "REPO" in result.output
    if verb == "create":
        for text in ("--port", "55432", "--db-name", "proc_decam_registry"):
            assert text in result.output


@pytest.mark.parametrize("line", ["--help", *(f"{name} --help" for name in COMMANDS)])
def test_help_exits_0_with_an_example(line):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == 0
    assert line == "--help" or "Example" in result.output and f"proc-decam {line.split()[0]}" in result.output


@pytest.mark.parametrize("folder", ["/", "/proc"])
def test_the_command_works_from_any_directory(folder):
    done = subprocess.run([PROC_DECAM, "night", "--help"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Usage: proc-decam night" in done.stdout and not done.stderr
