"""A survey's Dagster with its storage in a real Postgres, in the folders that deploy/ names, moved to a new one."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
import yaml

from proc_decam_dagster.database.programs import find_programs

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PASSWORD = "PROC_DECAM_DAGSTER_PASSWORD"
PROGRAMS = Path(sys.executable).parent


class Postgres:
    """A server on loopback with Dagster's role and database, as `deploy/dagster/compose.yaml` starts one."""

    def __init__(self, port: int) -> None:
        self.port, self.programs = port, find_programs()
        self.folder = Path(tempfile.mkdtemp(prefix="proc-decam-deploy-"))
        self.folder.chmod(0o777)
        # Postgres refuses to run as root.
        self._as = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []

    def __enter__(self) -> "Postgres":
        data = self.folder / "data"
        self._run("initdb", "-D", data, "-U", "proc_decam_dagster", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", data, "-l", self.folder / "log", "-w", "-o", self.options, "start")
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "proc_decam_dagster", "proc_decam_dagster")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *words: object) -> None:
        command = [*self._as, self.programs.path(program), *map(str, words)]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=300)
        # pg_ctl's child holds on to the pipes of its parent, so that its words may be missing.
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def write_home(home: Path, postgres_port: int, code_port: int) -> dict[str, str]:
    """Write DAGSTER_HOME as the guide does, on free ports; return the environment of its processes."""
    home.mkdir(parents=True, exist_ok=True)
    instance = yaml.safe_load((DEPLOY / "postgres" / "dagster.yaml").read_text())
    instance["storage"]["postgres"]["postgres_db"]["port"] = postgres_port
    (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
    workspace = yaml.safe_load((DEPLOY / "dagster" / "workspace.yaml").read_text())
    workspace["load_from"][0]["grpc_server"]["port"] = code_port
    (home / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    return {
        **os.environ, "DAGSTER_HOME": str(home), PASSWORD: "x", "PROC_DECAM_REPO": str(home / "repo"),
        "PROC_DECAM_DATA": str(home / "data"),
    }  # fmt: skip


def command_of(unit: Path) -> list[str]:
    """Return the words of a unit's command."""
    return shlex.split(re.search(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)[1])


def until(found, what: str, patience: float = 300.0):
    """Return what a function finds as soon as it is true."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {patience:.0f} s")


def locations(web_port: int) -> list[str]:
    """Return the code locations that a web server has loaded; none while it does not answer."""
    query = "{workspaceOrError {... on Workspace {locationEntries {name locationOrLoadError {__typename}}}}}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{web_port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        entries = json.load(urllib.request.urlopen(request, timeout=60))["data"]["workspaceOrError"]["locationEntries"]
        return [
            e["name"] for e in entries if (e["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
        ]
    return []


def beats(home: Path, environment: dict[str, str], since: float) -> set[str]:
    """Return the daemons with heartbeats in the instance's storage since a time: older ones are of another process."""
    before = os.environ.get(PASSWORD)
    os.environ[PASSWORD] = environment[PASSWORD]
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            return {name for name, beat in instance.get_daemon_heartbeats().items() if beat.timestamp >= since}
    finally:
        os.environ.pop(PASSWORD) if before is None else os.environ.update({PASSWORD: before})
