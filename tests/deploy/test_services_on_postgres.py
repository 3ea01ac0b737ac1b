"""What deploy/ starts, started for real with Dagster's storage in Postgres: the units' commands, and the Slurm job."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from slurm_cluster import free_ports

from proc_decam_dagster.database.programs import find_programs
from proc_decam_dagster.errors import SurveyError

from .services_on_postgres import DEPLOY, PROGRAMS, Postgres, beats, command_of, locations, until, write_home

UNITS = {name: DEPLOY / "dagster" / f"proc-decam-{name}.service" for name in ("code", "daemon", "web")}
DAEMONS = {"SENSOR", "SCHEDULER", "BACKFILL", "QUEUED_RUN_COORDINATOR"}


@pytest.fixture(scope="module")
def postgres():
    try:
        find_programs()
    except SurveyError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI without PostgreSQL: {error}")
        pytest.skip(str(error))
    (port,) = free_ports(1)
    with Postgres(port) as server:
        yield server


def moved(words: list[str], home: Path, ports: dict[str, int]) -> list[str]:
    """Return a unit's command on this machine: its programs, its folder, free ports."""
    place = {"4266": str(ports["code"]), "3000": str(ports["web"])}
    words = [place.get(w, w).replace("/srv/survey/dagster", str(home)) for w in words]
    return [str(PROGRAMS / Path(words[0]).name), *words[1:]]


def test_the_units_commands_start_on_postgres(postgres, tmp_path):
    ports = dict(zip(("code", "web"), free_ports(2)))
    home = tmp_path / "dagster"
    environment = write_home(home, postgres.port, ports["code"])
    # As the service `migrate` of compose.yaml does.
    subprocess.run([PROGRAMS / "dagster", "instance", "migrate"], cwd=home, env=environment, check=True, timeout=300)
    processes, since = [], time.time()
    try:
        for name, unit in UNITS.items():
            command = moved(command_of(unit), home, ports)
            with (home / f"{name}.log").open("wb") as log:
                options = {"cwd": home, "env": environment, "stdout": log, "stderr": log, "start_new_session": True}
                processes.append(subprocess.Popen(command, **options))
        until(lambda: locations(ports["web"]) == ["proc_decam"], "the UI shows the code location")
        until(lambda: beats(home, environment, since) >= DAEMONS, "the daemon's parts are alive")
        assert [p.poll() for p in processes] == [None, None, None]
        for process in processes:  # as systemd does
            process.terminate()
        assert [p.wait(60) for p in processes[1:]] == [0, 0]
    finally:
        for process in processes:
            if process.poll() is None or process is processes[0]:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                process.wait()


def test_compose_starts_what_the_units_do():
    services = yaml.safe_load((DEPLOY / "dagster" / "compose.yaml").read_text())["services"]
    for name, unit in UNITS.items():
        words = command_of(unit)
        typed = [Path(words[0]).name, *words[1:]]
        # In a container the UI must listen on its address to be published; the units' workspace is in their folder.
        plain = {"127.0.0.1": "HOST", "0.0.0.0": "HOST"} if name == "web" else {}
        assert [plain.get(w, w) for w in typed] == [plain.get(str(w), str(w)) for w in services[name]["command"]]
    for service in services.values():
        for other, condition in dict.fromkeys(service.get("depends_on", {})).items():
            assert other in services, condition
    assert services["migrate"]["command"] == ["dagster", "instance", "migrate"]


def test_the_slurm_job_runs_dagster_and_its_successor_takes_over(postgres, cluster, tmp_path):
    (code,) = free_ports(1)
    home = tmp_path / "dagster"
    environment = write_home(home, postgres.port, code)
    subprocess.run([PROGRAMS / "dagster", "instance", "migrate"], cwd=home, env=environment, check=True, timeout=300)
    names = ("PROC_DECAM_DAGSTER_PASSWORD", "PROC_DECAM_REPO", "PROC_DECAM_DATA")
    lines = [f"{name}={environment[name]}" for name in names]
    lines += [f"PROC_DECAM_CODE_PORT={code}", "PROC_DECAM_CODE_HOST=127.0.0.1"]
    (home / "survey.env").write_text("\n".join(lines) + "\n")
    script, log = home / "dagster.sbatch", home / "proc-decam-dagster.log"
    asked = "--cpus-per-task=4 --mem=16G --time=2-00:00:00"
    text = (DEPLOY / "slurm" / "dagster.sbatch").read_text()
    assert asked in text
    script.write_text(text.replace(asked, f"--cpus-per-task=2 --mem=2G --time=60 --chdir={home}"))
    since = time.time()
    job = cluster.run("sbatch", "--parsable", str(script), str(home), str(PROGRAMS.parent)).strip().split(";")[0]
    until(lambda: beats(home, environment, since) >= DAEMONS, f"the daemon's parts are alive; log: {log}")
    workspace = yaml.safe_load((home / "workspace.yaml").read_text())
    assert workspace["load_from"][0]["grpc_server"]["port"] == code
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    until(lambda: "the next job takes over" in log.read_text(), "the job makes way")
    cluster.run("scancel", "--batch", "--signal=USR1", job)  # told twice, it makes way once
    (successor,) = until(lambda: [j for j in cluster.jobs() if j != job], "its successor is queued")
    until(lambda: job not in cluster.jobs(), "the job ends by itself")
    cluster.run("scancel", successor)
    assert "Traceback" not in log.read_text()
