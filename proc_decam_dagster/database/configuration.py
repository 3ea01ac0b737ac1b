"""The cluster's files: initdb, what the server is set to, and who may connect from where."""

import shutil

from proc_decam_dagster.database.cluster import LOOPBACK, Cluster, ClusterSettings
from proc_decam_dagster.database.files import write_file
from proc_decam_dagster.database.programs import Programs, ServerUser
from proc_decam_dagster.database.tls import ensure_certificate
from proc_decam_dagster.errors import SurveyError

ADMIN = "proc_decam_admin"
"""Superuser; enters through the unix socket only, as the operating system's user that runs the server."""
INCLUDED = "proc_decam.conf"

SETTINGS = """\
# Written by `proc-decam db`. Your own settings go before it: `ALTER SYSTEM SET …` (postgresql.auto.conf).
listen_addresses = '{listen}'
port = {port}
unix_socket_directories = '{socket}'
password_encryption = 'scram-sha-256'
# Committed is committed, also when the machine goes down.
fsync = on
synchronous_commit = on
full_page_writes = on
max_connections = 200
shared_buffers = 256MB
work_mem = 16MB
maintenance_work_mem = 128MB
max_wal_size = 2GB
checkpoint_timeout = 15min
random_page_cost = 1.1
jit = off
# A first ingest fills empty tables: until they are analysed, the query of a night takes ten times as long.
autovacuum_naptime = 10s
# A machine that vanishes gives back its locks after two minutes.
tcp_keepalives_idle = 60
tcp_keepalives_interval = 10
tcp_keepalives_count = 6
log_line_prefix = '%m [%p] %u@%d '
log_timezone = 'UTC'
timezone = 'UTC'
ssl = {ssl}
"""


def initialise(cluster: Cluster, programs: Programs, user: ServerUser) -> None:
    """Make the data folder: all of it, or nothing under its name.

    The locale is C, so that indexes mean the same whatever version of the C library reads them; pages have checksums.
    """
    if cluster.version is not None:
        return
    # The server's user may not make a folder in the repository: it is given one.
    partial = cluster.folder / "data.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if not user.is_me:
        shutil.chown(partial, user.uid, user.gid)
    command = [
        programs.path("initdb"), "-D", partial.name, "-U", ADMIN, "--auth-local=peer", "--auth-host=scram-sha-256",
        "--encoding=UTF8", "--locale=C", "--data-checksums",
    ]  # fmt: skip
    done = user.run(command, cluster.folder)
    if done.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        raise SurveyError(
            f"initdb has failed in {cluster.folder}: {' '.join(done.stderr.split())[-300:]}",
            "a local file system with space, that the user of the server may write",
            "choose another place for the repository",
        )
    partial.rename(cluster.data)


def configure(cluster: Cluster, user: ServerUser) -> bool:
    """Write the server's configuration from the cluster's settings; return whether it has to be started anew."""
    settings = cluster.settings
    if settings.listen:
        ensure_certificate(cluster, user)
    listen = "*" if settings.listen in ("*", "0.0.0.0", "::") else ",".join(filter(None, (LOOPBACK, settings.listen)))
    text = SETTINGS.format(
        listen=listen, port=settings.port, socket=cluster.socket_folder, ssl="on" if settings.listen else "off"
    )
    main = cluster.data / "postgresql.conf"
    include = f"include '{INCLUDED}'"
    if include not in main.read_text():
        write_file(main, f"{main.read_text()}\n{include}\n", mode=0o600, owner=cluster.data)
    changed = _write(cluster, INCLUDED, text)
    _write(cluster, "pg_hba.conf", _who_may_connect(settings))
    _write(cluster, "pg_ident.conf", f'server "{user.name}" {ADMIN}\n')
    return changed


def _who_may_connect(settings: ClusterSettings) -> str:
    lines = [
        "# Written by `proc-decam db`: the first line that fits decides.",
        f"local all {ADMIN} peer map=server",
        f"host all {ADMIN} all reject",
        "local all all scram-sha-256",
    ]
    kind = "hostssl" if settings.listen else "host"
    lines += [f"{kind} all all {network} scram-sha-256" for network in (f"{LOOPBACK}/32", "::1/128")]
    if settings.listen:
        lines += [f"hostssl all all {network} scram-sha-256" for network in ("samehost", *settings.allow)]
    return "\n".join(lines) + "\n"


def _write(cluster: Cluster, name: str, text: str) -> bool:
    path = cluster.data / name
    if path.is_file() and path.read_text() == text:
        return False
    write_file(path, text, mode=0o600, owner=cluster.data)
    return True
