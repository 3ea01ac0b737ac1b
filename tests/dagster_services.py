"""Dagster as it is deployed: a code server, a daemon and a web server, each a process of its own on loopback."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

CHECKOUT = Path(__file__).resolve().parents[1]
DEFINITIONS = "proc_decam_dagster.definitions"
LOCATION = "proc_decam"
PATIENCE = 600.0
"""Seconds that anything may take on a machine that others use too; nothing waits when it is done."""


def until[T](found: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Return what a function finds as soon as it is true; an error names what did not come."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise TimeoutError(f"{what}: not within {patience:.0f} s")


class Services:
    """The processes of one Dagster instance, and the ways to talk to it.

    Parameters
    ----------
    home : `pathlib.Path`
        ``DAGSTER_HOME``; gets the repository's ``dagster.yaml``, and the processes' logs.
    variables : mapping
        Environment of the code location.
    module : `str`
        What the code server loads.
    """

    def __init__(self, home: Path, variables: Mapping[str, str], module: str = DEFINITIONS) -> None:
        self.home, self.module = home, module
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / "dagster.yaml", home)
        self.ports = {name: _free_port() for name in ("code", "web")}
        server = {"host": "127.0.0.1", "port": self.ports["code"], "location_name": LOCATION}
        (home / "workspace.yaml").write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
        programs = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ, **variables, "DAGSTER_HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}",
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen] = {}
        self._groups: list[int] = []

    @property
    def url(self) -> str:
        """Address of the web server."""
        return f"http://127.0.0.1:{self.ports['web']}"

    def instance(self) -> dg.DagsterInstance:
        """Return the instance that the processes share; it is a context manager."""
        return dg.DagsterInstance.from_config(str(self.home))

    def start(self, *names: str) -> None:
        """Start some of ``code``, ``web``, ``daemon``, one after the other, each when the one before answers."""
        commands = {
            "code": ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(self.ports["code"]), "-m", self.module,
                     "--location-name", LOCATION, "--lazy-load-user-code"],
            "daemon": ["dagster-daemon", "run", "-w", "workspace.yaml"],
            "web": ["dagster-webserver", "-h", "127.0.0.1", "-p", str(self.ports["web"]), "-w", "workspace.yaml"],
        }  # fmt: skip
        for name in names:
            with (self.home / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    commands[name], cwd=self.home, env=self.environment, stdout=log, stderr=log, start_new_session=True
                )
            self._groups.append(self.processes[name].pid)
            if name in self.ports:
                until(lambda n=name: self._answers(n), f"{name} server answers; its log is {self.home}/{name}.log")

    def _answers(self, name: str) -> bool:
        if (code := self.processes[name].poll()) is not None:
            log = (self.home / f"{name}.log").read_text()[-2000:]
            raise RuntimeError(f"the {name} server ended with code {code}: {log}")
        if name == "web":
            return self._location() is not None
        with contextlib.suppress(DagsterUserCodeUnreachableError):
            DagsterGrpcClient(host="127.0.0.1", port=self.ports["code"]).ping("")
            return True
        return False

    def _location(self) -> dict[str, Any] | None:
        """Return what the web server knows of the code location, as soon as it has asked for it."""
        query = """{ workspaceOrError { ... on Workspace { locationEntries { loadStatus
            locationOrLoadError { ... on PythonError { message errorChain { error { message } } } } } } } }"""
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            (entry,) = self.graphql(query)["workspaceOrError"]["locationEntries"]
            return entry["locationOrLoadError"] if entry["loadStatus"] == "LOADED" else None
        return None

    def load_error(self) -> str:
        """Return why the code location could not be loaded, with the causes that the UI shows; empty if it was."""
        error = self._location() or {}
        causes = [link["error"]["message"] for link in error.get("errorChain", [])]
        return "".join([error.get("message", ""), *causes])

    def kill(self, name: str) -> None:
        """End one process as a crash does: nothing that it could do about it."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        """End all processes, and the runs that they started."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL answer; errors are raised."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            said = json.load(answer)
        if said.get("errors"):
            raise RuntimeError(said["errors"])
        return said["data"]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
