"""The server's process: is it running, start it, stop it; whatever a crash or a reboot has left behind."""

import errno
import os
import re
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from proc_decam_dagster.database.cluster import LOOPBACK, Cluster, ClusterSettings
from proc_decam_dagster.database.folders import make_socket_folder
from proc_decam_dagster.database.programs import ServerUser, find_programs
from proc_decam_dagster.errors import SurveyError

SECONDS_TO_START = 120
"""Also for replaying what was not yet written when the machine went down."""
SECONDS_TO_STOP = 60
SECONDS_FOR_ORPHANS = 30
"""How long processes of a killed server may take to notice it."""
LONGEST_LOG = 20_000_000
EVERYWHERE = "0.0.0.0"


@dataclass(frozen=True)
class Postmaster:
    """A running server."""

    pid: int
    since: str
    port: int


def running(cluster: Cluster, user: ServerUser) -> Postmaster | None:
    """Return the server if it is running here; a pid file alone proves nothing, its number may be another's by now."""
    lines = _pid_file(cluster)
    if not lines or not _is_postmaster(cluster, user, int(lines[0])):
        return None
    since = datetime.fromtimestamp(int(lines[2]), UTC).isoformat(timespec="seconds")
    return Postmaster(int(lines[0]), since, int(lines[3]))


def start(cluster: Cluster, user: ServerUser) -> bool:
    """Start the server and wait until it answers; return `False` if it was running already.

    Raises
    ------
    SurveyError
        If its port is taken, if it is running on another machine, or if it does not start; with the server's reason.
    """
    if running(cluster, user):
        return False
    settings = cluster.settings
    programs = find_programs(cluster.version)
    _require_stopped_elsewhere(cluster, settings)
    require_free_port(cluster, settings)
    make_socket_folder(cluster, user)
    _keep_log_short(cluster)
    command = [
        programs.path("pg_ctl"), "start", "-D", "data", "-w", "-t", str(SECONDS_TO_START), "-l", "log/server.log",
    ]  # fmt: skip
    deadline = time.monotonic() + SECONDS_FOR_ORPHANS
    while True:
        _disown_stale(cluster, user)
        begin = cluster.log.stat().st_size if cluster.log.exists() else 0
        # Relative paths: pg_ctl goes through a shell, which a repository's path might confuse.
        if user.run(command, cluster.folder).returncode == 0:
            break
        reason = _log_from(cluster, begin)
        if "is still in use" not in reason or time.monotonic() > deadline:
            raise SurveyError(
                f"the database server of {cluster.root} does not start: {_fatal(reason)}",
                fix=f"the whole story is in {cluster.log}",
            )
        time.sleep(0.5)
    if settings.host != socket.gethostname():
        cluster.change(host=socket.gethostname())
    return True


def stop(cluster: Cluster, user: ServerUser) -> bool:
    """Stop the server: transactions under way are rolled back; return `False` if it was not running.

    Raises
    ------
    SurveyError
        If it is running on another machine, or does not stop.
    """
    postmaster = running(cluster, user)
    if postmaster is None:
        if _pid_file(cluster):
            _require_stopped_elsewhere(cluster, cluster.settings)
        return False
    programs = find_programs(cluster.version)
    done = user.run(
        [programs.path("pg_ctl"), "stop", "-D", "data", "-m", "fast", "-w", "-t", str(SECONDS_TO_STOP)], cluster.folder
    )
    if done.returncode and running(cluster, user):
        raise SurveyError(
            f"the database server (process {postmaster.pid}) has not stopped within {SECONDS_TO_STOP} s",
            fix=f"look into {cluster.log}; `kill -QUIT {postmaster.pid}` stops it at once, nothing committed is lost",
        )
    return True


def reload(cluster: Cluster, user: ServerUser) -> None:
    """Let a running server read who may connect."""
    if postmaster := running(cluster, user):
        os.kill(postmaster.pid, signal.SIGHUP)


def require_free_port(cluster: Cluster, settings: ClusterSettings, before: ClusterSettings | None = None) -> None:
    """Check that the server can listen.

    Parameters
    ----------
    before : `ClusterSettings`, optional
        What the server may be listening to at the moment: that is not asked for again.

    Raises
    ------
    SurveyError
        If another program has its port (the next free one is named), or if the address is not this machine's.
    """
    hosts = _hosts(settings)
    if before is not None and before.port == settings.port:
        mine = _hosts(before)
        hosts = [] if EVERYWHERE in mine or EVERYWHERE in hosts else [h for h in hosts if h not in mine]
    busy = _busy(hosts, settings.port)
    if busy is None:
        return
    others = range(settings.port + 1, min(settings.port + 1000, 65536))
    free = next((p for p in others if _busy(_hosts(settings), p) is None), None)
    verb = "start" if cluster.exists else "create"
    raise SurveyError(
        f"port {settings.port} of {busy} is taken by another program", "a free port",
        f"`proc-decam db {verb} {cluster.root} --port {free}`" if free else "stop that program",
    )  # fmt: skip


def _hosts(settings: ClusterSettings) -> list[str]:
    return [h for h in (LOOPBACK, EVERYWHERE if settings.listen in ("*", "::") else settings.listen) if h]


def _busy(hosts: list[str], port: int) -> str | None:
    """Return the first of some addresses whose port is taken."""
    for host in hosts:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return host
            raise SurveyError(
                f"the server cannot listen on {host} port {port}: {error.strerror or error}",
                "an address of this machine, and a port from 1024 to 65535",
                "give another with --listen or --port",
            ) from None
    return None


def _pid_file(cluster: Cluster) -> list[str]:
    """Return the lines of ``postmaster.pid`` (pid, data, start, port, …); none if there is no whole one."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    whole = len(lines) >= 4 and all(lines[i].strip().isdigit() for i in (0, 2, 3))
    return lines if whole else []


def _is_postmaster(cluster: Cluster, user: ServerUser, pid: int) -> bool:
    """Whether a process is this cluster's server: it works in the data folder, and is no zombie."""
    # Asked as the server's user: root in a container may not look into the processes of others.
    if os.path.isdir("/proc/self"):
        done = user.run(["readlink", f"/proc/{pid}/cwd"], cluster.folder)
        return done.returncode == 0 and done.stdout.strip() == os.path.realpath(cluster.data)
    done = user.run(["ps", "-o", "command=", "-p", str(pid)], cluster.folder)
    return done.returncode == 0 and "postgres" in done.stdout


def _disown_stale(cluster: Cluster, user: ServerUser) -> None:
    """Make what a dead server left behind harmless.

    Postgres refuses to start while the pid in its file belongs to any living process of the same user, which after a
    reboot it often does. It takes no offence at the process that has started it, so the file gets our own number; the
    file itself stays, because Postgres reads in it which shared memory must no longer be in use.
    """
    lines = _pid_file(cluster)
    path = cluster.data / "postmaster.pid"
    if lines:
        lines[0] = str(os.getpid())
        with open(path, "r+") as stream:
            stream.write("\n".join(lines) + "\n")
            stream.truncate()
    else:
        path.unlink(missing_ok=True)
    # Nobody but this cluster makes sockets in this folder, and its server is not running.
    for left in cluster.socket_folder.glob(".s.PGSQL.*"):
        left.unlink(missing_ok=True)


def _require_stopped_elsewhere(cluster: Cluster, settings: ClusterSettings) -> None:
    here = socket.gethostname()
    if settings.host and settings.host != here and (cluster.data / "postmaster.pid").exists():
        raise SurveyError(
            f"the database was started on {settings.host}, and was not stopped there; this is {here}",
            "one server at a time: two would destroy the data",
            f"`proc-decam db stop {cluster.root}` on {settings.host}; only if that machine no longer runs, "
            f"`rm {cluster.data}/postmaster.pid`",
        )


def _keep_log_short(cluster: Cluster) -> None:
    if cluster.log.exists() and cluster.log.stat().st_size > LONGEST_LOG:
        shutil.move(cluster.log, cluster.log.with_suffix(".log.1"))


def _log_from(cluster: Cluster, begin: int) -> str:
    if not cluster.log.exists():
        return ""
    with open(cluster.log, "rb") as stream:
        stream.seek(begin)
        return stream.read().decode(errors="replace")


def _fatal(text: str) -> str:
    said = re.findall(r"(?:FATAL|PANIC|ERROR|HINT):\s*(.*)", text)
    return "; ".join(dict.fromkeys(said)) or f"no answer within {SECONDS_TO_START} s"
