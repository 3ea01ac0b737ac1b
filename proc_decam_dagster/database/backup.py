"""Backup and restore of the registry (or of Dagster's storage): one file, read whole before it is trusted."""

import os
import time
from pathlib import Path

from proc_decam_dagster.database.cluster import DAGSTER_DATABASE, Cluster, ClusterSettings
from proc_decam_dagster.database.configuration import ADMIN
from proc_decam_dagster.database.create import create_database
from proc_decam_dagster.database.programs import ServerUser, find_programs
from proc_decam_dagster.database.roles import (
    DAGSTER,
    OWNER,
    has_database,
    let_read,
    registry_schemas,
    require_running,
    sql,
)
from proc_decam_dagster.database.service import registry_of
from proc_decam_dagster.errors import SurveyError, disk_full


def backup(root: str | os.PathLike, path: Path, *, dagster: bool = False) -> int:
    """Write a consistent copy of the registry while others go on working, read it back, and return its size in bytes.

    Parameters
    ----------
    path : `pathlib.Path`
        File of pg_dump's custom format, mode 600; it appears when it is whole. An older one is replaced.
    dagster : `bool`
        Dagster's storage instead of the registry.
    """
    cluster, user = require_running(root)
    database = _database(cluster, user, dagster)
    programs = find_programs(cluster.version)
    path = path.expanduser().resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    command = [programs.path("pg_dump"), *_connection(cluster), "--format=custom", database]
    try:
        with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            done = user.run(command, cluster.folder, stdout=stream)
            os.fsync(stream.fileno())
        if done.returncode:
            raise SurveyError(f"{path} was not written: {' '.join(done.stderr.split())[:300]}", fix="run it again")
        _require_whole(cluster, user, partial)
        os.replace(partial, path)
    except OSError as error:
        raise disk_full(error) or error from None
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size


def restore(root: str | os.PathLike, path: Path, *, dagster: bool = False) -> str:
    """Put a backup in place of the registry; return the name of the database that keeps what was there.

    The backup is restored beside the present database, and the names are changed when it is complete: until then
    nothing has happened. Where the cluster itself is lost, a new one is made.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise SurveyError(f"backup {path} does not exist", "a file of `proc-decam db backup`")
    if not Cluster(root).exists:
        _replace_lost(Cluster(root), dagster)
    cluster, user = require_running(root)
    _require_whole(cluster, user, path)
    database = _database(cluster, user, dagster)
    owner = DAGSTER if dagster else OWNER
    new, kept = f"{database}_restoring", f"{database}_replaced"
    drop_new = f"DROP DATABASE IF EXISTS {new} WITH (FORCE);"
    quiet = "SET client_min_messages = error;"
    sql(cluster, user, f"{quiet} {drop_new}")
    sql(cluster, user, f"CREATE DATABASE {new} OWNER {owner} TEMPLATE template0;")
    try:
        _fill(cluster, user, path, new, owner)
        if not dagster:
            if not registry_schemas(cluster, user, new):
                raise SurveyError(f"{path} holds no Butler registry", "a file of `proc-decam db backup`")
            let_read(cluster, user, new)
        else:
            sql(cluster, user, f"REVOKE ALL ON DATABASE {new} FROM PUBLIC;")
        sql(cluster, user, "ANALYZE;", new)
        sql(cluster, user, f"{quiet} DROP DATABASE IF EXISTS {kept} WITH (FORCE);")
        _swap(cluster, user, database, new, kept)
    except BaseException:
        sql(cluster, user, f"{quiet} {drop_new}")
        raise
    return kept


def _fill(cluster: Cluster, user: ServerUser, path: Path, database: str, owner: str) -> None:
    programs = find_programs(cluster.version)
    command = [
        programs.path("pg_restore"), *_connection(cluster), "-d", database, "--exit-on-error", "--single-transaction",
        "--no-owner", "--no-acl", f"--role={owner}",
    ]  # fmt: skip
    with open(path, "rb") as stream:
        done = user.run(command, cluster.folder, stdin=stream)
    if done.returncode:
        raise SurveyError(
            f"{path} cannot be restored: {' '.join(done.stderr.split())[:300]}",
            fix="nothing was changed; try an older backup",
        )


def _swap(cluster: Cluster, user: ServerUser, database: str, new: str, kept: str) -> None:
    """Change the names; those who are connected to the old database are disconnected."""
    close = f"""
        ALTER DATABASE {database} ALLOW_CONNECTIONS false;
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}';
    """
    rename = f"BEGIN; ALTER DATABASE {database} RENAME TO {kept}; ALTER DATABASE {new} RENAME TO {database}; COMMIT;"
    try:
        sql(cluster, user, close)
        deadline = time.monotonic() + 30
        while True:
            try:
                sql(cluster, user, rename)
                return
            except SurveyError:  # a connection is still on its way out
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    finally:
        for name in (database, kept):
            if has_database(cluster, user, name):
                sql(cluster, user, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true;")


def _database(cluster: Cluster, user: ServerUser, dagster: bool) -> str:
    if not dagster:
        return cluster.settings.database
    if not has_database(cluster, user, DAGSTER_DATABASE):
        raise SurveyError(
            f"the cluster of {cluster.root} has no database for Dagster",
            fix=f"`proc-decam db create {cluster.root} --dagster`",
        )
    return DAGSTER_DATABASE


def _connection(cluster: Cluster) -> list[str]:
    return ["-h", str(cluster.socket_folder), "-p", str(cluster.settings.port), "-U", ADMIN, "-w"]


def _require_whole(cluster: Cluster, user: ServerUser, path: Path) -> None:
    """Read a backup to its end: every block is decompressed."""
    programs = find_programs(cluster.version)
    with open(path, "rb") as stream, open(os.devnull, "wb") as nothing:
        done = user.run([programs.path("pg_restore"), "-f", "-"], cluster.folder, stdin=stream, stdout=nothing)
    if done.returncode:
        raise SurveyError(
            f"backup {path} is not whole: {' '.join(done.stderr.split())[:300]}", "a file of `proc-decam db backup`",
            "use another one",
        )  # fmt: skip


def _replace_lost(cluster: Cluster, dagster: bool) -> None:
    """Make a cluster where the repository's configuration says that there was one."""
    from sqlalchemy.engine import make_url

    uri = registry_of(cluster)
    if uri is None or not uri.startswith("postgresql"):
        raise SurveyError(
            f"{cluster.root} is no repository with a registry on Postgres", "a folder with its butler.yaml",
            f"restore {cluster.butler_file} first, which belongs to the backup",
        )  # fmt: skip
    url = make_url(uri)
    if url.host != "127.0.0.1":
        raise SurveyError(
            f"the lost cluster of {cluster.root} listened on {url.host}, and whom it let in is not known",
            fix=f"move the repository's butler.yaml away, `proc-decam db create {cluster.root} --listen … --allow …`, "
            "put it back, and restore",
        )
    default = ClusterSettings()
    create_database(
        cluster.root, port=url.port or default.port, database=url.database or default.database, dagster=dagster,
        repository=False,
    )  # fmt: skip
