"""The page that maps the replaced system's commands to ours names each of them, and nothing that there is not."""

import re
from pathlib import Path

import click
import pytest

from proc_decam_dagster.cli.main import COMMANDS, main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")
]
ROWS = [row for row in ROWS if row[0] not in ("proc-decam", "---")]
REFERENCE = {
    "exposures": ["--proposal-id", "--log-level"], "download": ["--download-dir", "-j", "--select"],
    "db": ["--port", "--db-name"],
    "defects": ["--calib-collection", "--run-prefix", "--bad-dataset", "--suspect-dataset"], "refcats": [],
    "fakes": ["--collection"],
    "ingest": ["-b", "--image-dir", "--select", "--collection", "--collection-keys", "-J", "--reingest"], "raw": [],
    "associate": ["-d", "--collections", "--where"], "collection": ["--coadd-subset", "--template-type", "--overwrite"],
    "decertify": [], "qgraph": ["-b", "-p", "-i", "--output-run", "-d", "--skip-existing-in", "--skip-failures"],
    "execute": ["--pipeline", "--where", "--no-skip-existing", "--no-skip-failures", "--no-loop", "--no-trigger-retry"],
    "retries": [],
    "pipeline": ["--template-type", "--coadd-subset", "--steps", "--where", "--slurm", "-J"],
    "night": [
        "--nights", "--proc-types", "--coadd-subset", "--template-type", "--where", "--slurm", "--pipeline-slurm",
        "--provider", "-J",
    ],
    "coadd": [
        "--template-type", "--coadd-subset", "--warp-coadd-name", "--where", "--collections", "--slurm",
        "--pipeline-slurm", "--provider", "-J",
    ],
}  # fmt: skip
"""The replaced system's commands and their options, from its source (HEAD 11179ae)."""


def command(name: str) -> click.Command:
    return main.get_command(click.Context(main), name)


def options(name: str) -> set[str]:
    """Return the options of a command; of all its actions if it is a group."""
    found = command(name)
    many = found.commands.values() if isinstance(found, click.Group) else [found]
    return {o for each in many for p in each.params for o in (*p.opts, *p.secondary_opts)}


@pytest.mark.parametrize("name", REFERENCE)
def test_each_command_has_its_row_and_its_options_are_here(name):
    (row,) = [row for row in ROWS if re.match(rf"`{name}[ `]", row[0])]
    assert set(REFERENCE[name]) <= options(name)
    for option in REFERENCE[name]:
        assert re.search(rf"(^|[\s`/]){option}($|[\s`,/])", row[0]), option


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1][:30])
def test_what_a_row_names_is_here(row):
    words = re.findall(r"`([a-z-]+)(?: [a-z]+)?`", row[1])
    names = [word for word in words if not word.startswith("-")]
    assert len(row) == 3 and names and set(names) <= set(COMMANDS)
    named = set(re.findall(r"`(--?[a-z-]+)`", " ".join(row[1:])))
    assert named <= set().union(*map(options, names))


def test_every_command_has_a_row():
    named = {word for row in ROWS for word in re.findall(r"`([a-z-]+)(?: [a-z]+)?`", row[1])}
    assert set(COMMANDS) <= named
