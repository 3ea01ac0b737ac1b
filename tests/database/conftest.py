"""A real Postgres server for the tests, in a folder that its unprivileged user may enter."""

import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from proc_decam_dagster.cli.main import main
from proc_decam_dagster.database import Cluster, stop_database
from proc_decam_dagster.database.programs import find_programs
from proc_decam_dagster.errors import SurveyError


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _fast() -> str | None:
    """Return memory to write to, where there is enough: a disk that others use takes most of the tests' time."""
    memory = Path("/dev/shm")
    usable = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2e9
    return str(memory) if usable else None


@pytest.fixture(scope="session")
def postgres():
    """The installed PostgreSQL; without one the test is skipped, but never in CI."""
    try:
        return find_programs()
    except SurveyError as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI without PostgreSQL: {error}")
        pytest.skip(f"no PostgreSQL: {error}")


@pytest.fixture(scope="session")
def made():
    """A function that makes a new folder; pytest's own are closed to the user that runs the server for root."""
    folders = []

    def make() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="proc-decam-test-", dir=_fast()))
        folder.chmod(0o755)
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        for settings in folder.glob("**/_registry/cluster.yaml"):
            stop_database(settings.parents[1])
            shutil.rmtree(Cluster(settings.parents[1]).socket_folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(made) -> Path:
    """A new folder."""
    return made()


@pytest.fixture(scope="session")
def auth_file(tmp_path_factory):
    """A credentials file instead of the user's own."""
    path = tmp_path_factory.mktemp("home") / "lsst" / "db-auth.yaml"
    before = os.environ.get("LSST_DB_AUTH")
    os.environ["LSST_DB_AUTH"] = str(path)
    yield path
    if before is None:
        del os.environ["LSST_DB_AUTH"]
    else:
        os.environ["LSST_DB_AUTH"] = before


@dataclass
class Served:
    """A repository on its own cluster, and all that its commands have said."""

    root: Path
    port: int
    said: list[str] = field(default_factory=list)

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.root)

    def db(self, action: str, *words: str, code: int = 0) -> Result:
        """Run `proc-decam db ACTION REPO …` and expect its exit code."""
        result = CliRunner().invoke(main, ["db", action, str(self.root), *map(str, words)])
        self.said.append(result.output)
        assert result.exit_code == code, result.output
        return result

    def password(self, user: str = "proc_decam") -> str:
        """Return a role's password from the credentials that the Butler reads."""
        entries = yaml.safe_load(Path(os.environ["LSST_DB_AUTH"]).read_text())
        here = [e for e in entries if e["username"] == user and f":{self.port}/" in e["url"]]
        return here[0]["password"]

    def psql(self, query: str, user: str = "proc_decam", password: str = "", **options) -> subprocess.CompletedProcess:
        """Ask the server over TCP, as any client would."""
        options = {
            "host": "127.0.0.1", "port": self.port, "user": user, "dbname": "proc_decam_registry",
            "connect_timeout": 10,
        } | options  # fmt: skip
        return subprocess.run(
            [find_programs().path("psql"), "-XAtwc", query, " ".join(f"{k}={v}" for k, v in options.items())],
            capture_output=True, text=True, env=os.environ | {"PGPASSWORD": password}, cwd="/",
        )  # fmt: skip


@pytest.fixture(scope="session")
def served(postgres, made, auth_file) -> Served:
    """A repository on a cluster of its own, made by the command; its server runs."""
    served = Served(made() / "repo", free_port())
    served.db("create", "--port", served.port)
    return served


@pytest.fixture
def started(served) -> Served:
    """`served`, its server running whatever a test before has done."""
    if "running, process" not in CliRunner().invoke(main, ["db", "status", str(served.root)]).output:
        served.db("start")
    return served
