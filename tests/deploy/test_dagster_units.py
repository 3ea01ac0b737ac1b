"""The systemd units and the compose file of Dagster: valid, and of one mind about addresses and commands."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "dagster"
UNITS = sorted(DEPLOY.glob("*.service"))
PROGRAMS = "/srv/survey/venv/bin"


def command_of(unit: Path) -> list[str]:
    return shlex.split(re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)[1])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault_in_the_units(tmp_path):
    here = str(Path(sys.executable).parent)
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAMS, here))
    units = [str(tmp_path / unit.name) for unit in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "proc-decam" in line]


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.stem)
def test_a_units_program_is_installed_and_knows_the_options(unit):
    program, *arguments = command_of(unit)
    program = Path(sys.executable).with_name(Path(program).name)
    words = [a for a in arguments if re.fullmatch(r"[a-z]+", a)][: 2 if "grpc" in arguments else 1]
    words = [w for w in words if w in ("api", "grpc", "run")]
    told = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=True).stdout
    for option in (a for a in arguments if a.startswith("-")):
        assert re.search(rf"(^|[\s,]){option}[\s,]", told), option


def test_only_the_code_server_is_stopped_when_its_unit_is():
    assert "KillMode=process" in (DEPLOY / "proc-decam-code.service").read_text().splitlines()


def test_units_workspace_and_compose_agree():
    (location,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    server = location["grpc_server"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for command in (command_of(DEPLOY / "proc-decam-code.service")[1:], services["code"]["command"][1:]):
        assert command[command.index("-p") + 1] == str(server["port"])
        assert command[command.index("-h") + 1] == server["host"]
        assert command[command.index("--location-name") + 1] == server["location_name"]
    storage = yaml.safe_load((DEPLOY.parent / "postgres" / "dagster.yaml").read_text())["storage"]["postgres"]
    postgres = services["postgres"]["environment"]
    assert postgres["PGPORT"] == str(storage["postgres_db"]["port"])
    assert postgres["POSTGRES_USER"] == storage["postgres_db"]["username"]
    assert postgres["POSTGRES_DB"] == storage["postgres_db"]["db_name"]
