"""A real Slurm cluster of two nodes on this machine: Debian's daemons on ports, sockets and folders of their own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
NODES = ("n1", "n2")
_SECONDS = 60


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def require_slurm() -> None:
    """Skip where Slurm is not installed, but fail in CI."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [p for p in PROGRAMS if shutil.which(p, path=path) is None]
    if missing and os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI without Slurm: {', '.join(missing)} not installed (Debian: slurm-wlm munge)")
    if missing:
        pytest.skip(f"no Slurm: {', '.join(missing)} not installed (Debian: slurm-wlm munge)")


class SlurmCluster:
    """The cluster; a context manager. Commands find it by ``SLURM_CONF``.

    Parameters
    ----------
    folder : `pathlib.Path`
        An empty folder, of a short path: a socket lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: dict[str, subprocess.Popen] = {}

    @property
    def configuration(self) -> Path:
        """File that ``SLURM_CONF`` names."""
        return self.folder / "slurm.conf"

    def __enter__(self) -> "SlurmCluster":
        self._configure()
        os.environ["SLURM_CONF"] = str(self.configuration)
        socket_, key = self.folder / "munge.socket", self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._start(
            "munged", "--foreground", "--force", f"--socket={socket_}", f"--key-file={key}",
            f"--pid-file={self.folder / 'munged.pid'}", f"--log-file={self.folder / 'munged.log'}",
            f"--seed-file={self.folder / 'munged.seed'}",
        )  # fmt: skip
        self._until(socket_.exists, "munged makes its socket")
        self.start_controller()
        for node in NODES:
            self._start("slurmd", "-D", "-N", node, "-f", str(self.configuration), name=node)
        self._until(lambda: self._nodes() == {"idle"}, "the nodes are idle")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.SubprocessError):
            self.run("scancel", "--full", "--user", str(os.getuid()))
            self._until(lambda: not self.jobs(), "the jobs are gone")
        for name in list(self._daemons):
            self._stop(name)
        os.environ.pop("SLURM_CONF", None)

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands; return what it says."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
        return done.stdout

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that wait or run."""
        return self.run("squeue", "--noheader", "--format=%A").split()

    def cancel_all(self) -> list[str]:
        """Cancel all jobs, as an administrator would; return their ids."""
        jobs = self.jobs()
        if jobs:
            self.run("scancel", *jobs)
        return jobs

    def start_controller(self) -> None:
        """Start slurmctld; it takes up what it knew."""
        self._start("slurmctld", "-D", "-f", str(self.configuration))

    def stop_controller(self) -> None:
        """Kill slurmctld."""
        self._stop("slurmctld", kill=True)

    def _nodes(self) -> set[str]:
        with suppress(subprocess.SubprocessError):
            return set(self.run("sinfo", "--noheader", "--Node", "--format=%T").split())
        return set()

    def _start(self, program: str, *arguments: str, name: str = "") -> None:
        path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        with (self.folder / f"{name or program}.out").open("ab") as out:
            # In a session of their own: Ctrl-C is for the tests.
            self._daemons[name or program] = subprocess.Popen(
                [path, *arguments], stdout=out, stderr=out, start_new_session=True
            )

    def _stop(self, name: str, kill: bool = False) -> None:
        daemon = self._daemons.pop(name)
        daemon.kill() if kill else daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _until(self, reached, what: str) -> None:
        until = time.monotonic() + _SECONDS
        while not reached():
            if time.monotonic() > until:
                logs = {p.name: p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.[lo][ou][gt]")}
                raise TimeoutError(f"in {_SECONDS} s not: {what}; {logs}")
            time.sleep(0.2)

    def _configure(self) -> None:
        for name in ("state", *(f"spool-{n}" for n in NODES)):
            (self.folder / name).mkdir()
        user, host = os.environ.get("USER") or _user(), socket.gethostname().split(".")[0]
        ports = free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=16000 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:])
        ]
        lines = {
            "ClusterName": "test", "SlurmctldHost": f"{host}(127.0.0.1)", "SlurmctldPort": ports[0],
            "AuthType": "auth/munge", "AuthInfo": f"socket={self.folder}/munge.socket", "CredType": "cred/munge",
            "SlurmUser": user, "SlurmdUser": user,
            "StateSaveLocation": f"{self.folder}/state", "SlurmdSpoolDir": f"{self.folder}/spool-%n",
            "SlurmctldPidFile": f"{self.folder}/slurmctld.pid", "SlurmdPidFile": f"{self.folder}/slurmd-%n.pid",
            # No control groups: containers have none to give.
            "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/linux", "MpiDefault": "none",
            "ReturnToService": 2, "KillWait": 2, "MessageTimeout": 30, "SlurmctldTimeout": 300, "SlurmdTimeout": 300,
            "SchedulerType": "sched/backfill", "SchedulerParameters": "batch_sched_delay=0,sched_min_interval=100000",
            "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_Core_Memory",
            "AccountingStorageType": "accounting_storage/none", "JobCompType": "jobcomp/none",
        }  # fmt: skip
        text = [f"{key}={value}" for key, value in lines.items()] + nodes
        text.append(
            f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO"
        )
        self.configuration.write_text("\n".join(text) + "\n")


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


SLURM_SITE = {
    "computeSite": "cluster",
    "requestMemory": 2048,
    "memoryLimit": 16000,
    "site": {
        "cluster": {
            "class": "proc_decam_dagster.execution.bps.sites.Slurm",
            "cores_per_node": 2, "walltime": "00:20:00", "address": "127.0.0.1",
            "poll_seconds": 2, "heartbeat_threshold": 10,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def cluster():
    """The cluster; without Slurm the test is skipped, but never in CI."""
    require_slurm()
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with SlurmCluster(folder) as cluster:
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm_site(cluster, tmp_path) -> Path:
    """A site file for the cluster."""
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(SLURM_SITE))
    return path
