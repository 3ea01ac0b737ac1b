"""What is to be known of a cluster: whether it runs, its version, address, size, connections, repositories."""

import os
from dataclasses import dataclass, field

from proc_decam_dagster.database.cluster import Cluster, registry_uri
from proc_decam_dagster.database.roles import registry_schemas, sql
from proc_decam_dagster.database.server import running


@dataclass(frozen=True)
class Status:
    """State of a cluster.

    Attributes
    ----------
    running : `bool`
    pid : `int`
    since : `str`
        ISO 8601 UTC.
    user : `str`
        Who runs the server.
    version : `str`
    uri : `str`
        Of the registry, without credentials.
    listen, allow
        For whom beside this machine.
    connections, max_connections : `int`
    databases : `dict` [`str`, `int`]
        Name → bytes.
    repositories : `dict` [`str`, `list` [`str`]]
        Database → the schemas in it that hold a Butler's registry.
    people : `list` [`str`]
        Roles that were granted.
    """

    running: bool
    uri: str
    user: str
    version: str
    listen: str = ""
    allow: tuple[str, ...] = ()
    pid: int = 0
    since: str = ""
    connections: int = 0
    max_connections: int = 0
    databases: dict[str, int] = field(default_factory=dict)
    repositories: dict[str, list[str]] = field(default_factory=dict)
    people: list[str] = field(default_factory=list)


def database_status(root: str | os.PathLike) -> Status:
    """Return the state of a repository's cluster."""
    cluster = Cluster(root)
    cluster.require()
    user, settings = cluster.server_user(), cluster.settings
    common = {
        "uri": registry_uri(settings), "user": user.name, "listen": settings.listen, "allow": settings.allow,
    }  # fmt: skip
    postmaster = running(cluster, user)
    if postmaster is None:
        return Status(running=False, version=str(cluster.version), **common)
    version, connections, most = sql(
        cluster,
        user,
        "SELECT current_setting('server_version'), count(*) - 1, current_setting('max_connections') "
        "FROM pg_stat_activity WHERE backend_type = 'client backend';",
    )[0]
    databases = sql(
        cluster,
        user,
        "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname LIKE '%' "
        "AND NOT datistemplate AND datname <> 'postgres' ORDER BY 1;",
    )
    schemas = {name: registry_schemas(cluster, user, name) for name, _ in databases}
    people = sql(
        cluster,
        user,
        "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper "
        "AND rolname NOT IN ('proc_decam', 'proc_decam_dagster') ORDER BY 1;",
    )
    return Status(
        running=True, pid=postmaster.pid, since=postmaster.since, version=version.split()[0],
        connections=int(connections), max_connections=int(most), databases={n: int(s) for n, s in databases},
        repositories={n: s for n, s in schemas.items() if s}, people=[row[0] for row in people], **common,
    )  # fmt: skip
