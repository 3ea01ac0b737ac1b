"""A new cluster with a Butler repository on it; done again, it adds what is missing."""

import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proc_decam_dagster.database.cluster import (
    DATABASE,
    LOOPBACK,
    PORT,
    Cluster,
    ClusterSettings,
    registry_uri,
    require_name,
)
from proc_decam_dagster.database.configuration import initialise
from proc_decam_dagster.database.credentials import require_usable
from proc_decam_dagster.database.folders import make_folders
from proc_decam_dagster.database.programs import ServerUser, find_programs
from proc_decam_dagster.database.roles import ensure_registry_database, registry_schemas, sql
from proc_decam_dagster.database.server import require_free_port
from proc_decam_dagster.database.service import bring_up, registry_of
from proc_decam_dagster.errors import SurveyError

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True)
class Created:
    """What `create_database` has done.

    Attributes
    ----------
    cluster : `Cluster`
    new_cluster, new_repository : `bool`
        Whether they were made now.
    """

    cluster: Cluster
    new_cluster: bool
    new_repository: bool


def create_database(
    root: str | os.PathLike,
    *,
    port: int | None = None,
    database: str | None = None,
    listen: str | None = None,
    allow: Sequence[str] = (),
    dagster: bool = False,
    engine: str = "embedded",
    exposures: "Table | None" = None,
    repository: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Created:
    """Make a Postgres cluster in a repository's folder, start it, and make the repository if there is none.

    Parameters
    ----------
    root : path-like
        The repository: a new folder, or one whose repository is on this cluster already.
    port, database : optional
        `PORT` and `DATABASE` if not given, or what an existing cluster has.
    listen : `str`, optional
        Address for other machines, over TLS only; ``127.0.0.1`` takes it back.
    allow : sequence of `str`
        Networks that may connect (CIDR); an address alone lets nobody in.
    dagster : `bool`
        Make a database for Dagster's storage, too.
    engine : `str`
        Engine of a new repository.
    exposures : `~astropy.table.Table`, optional
        Makes a new repository's skymap, see `create_repository`.
    repository : `bool`
        Whether to make the Butler repository.
    say : callable
        Told what is being done.

    Raises
    ------
    SurveyError
        If the repository has another registry, if PostgreSQL is absent, if the port is taken, …
    """
    cluster = Cluster(root)
    before = cluster.settings
    wanted = _wanted(cluster, before, port, database, listen, allow, dagster)
    require_usable()
    if repository:
        _require_no_other_registry(cluster, before)
    if repository and registry_of(cluster) is None:
        from proc_decam_dagster.repository import engines
        from proc_decam_dagster.repository.skymap import require_pointings

        engines.engine(engine)
        if exposures is not None:
            require_pointings(exposures)
    new_cluster = not cluster.exists
    user = cluster.server_user()
    programs = find_programs(cluster.version)
    if new_cluster:
        require_free_port(cluster, wanted)
    make_folders(cluster, user)
    with cluster.locked():
        if new_cluster:
            say(f"PostgreSQL {programs.version} in {cluster.folder}, run by {user.name}")
        initialise(cluster, programs, user)
        bring_up(cluster, user, wanted)
    if not repository or registry_of(cluster) is not None:
        return Created(cluster, new_cluster, False)
    _create_repository(cluster, user, engine, exposures)
    return Created(cluster, new_cluster, True)


def _wanted(
    cluster: Cluster, before: ClusterSettings, port: int | None, database: str | None, listen: str | None,
    allow: Sequence[str], dagster: bool,
) -> ClusterSettings:  # fmt: skip
    """Return the settings asked for, over those that stand."""
    if database is not None:
        require_name(database, "database")
        if cluster.exists and database != before.database:
            raise SurveyError(
                f"the cluster of {cluster.root} holds the registry in {before.database}, not in {database}",
                fix="leave --db-name out",
            )
    if listen in (LOOPBACK, "localhost"):
        listen, allow = "", ()
    elif listen is None:
        listen, allow = before.listen, allow or before.allow
        if allow and not listen:
            raise SurveyError(
                f"--allow {allow[0]} without --listen: the server listens to this machine only",
                fix="add --listen ADDRESS, this machine's address in that network",
            )
    else:
        allow = allow or before.allow
    if listen and not allow:
        raise SurveyError(
            f"--listen {listen} lets nobody in yet", "the networks that may connect",
            "add --allow CIDR, for instance --allow 10.1.0.0/16",
        )  # fmt: skip
    if listen and not all(c.isalnum() or c in ".:-*" for c in listen):
        raise SurveyError(f"--listen {listen} is no address", "an IP address or host name of this machine")
    return replace(
        before, port=port or before.port or PORT, database=database or before.database or DATABASE, listen=listen,
        allow=tuple(_network(a) for a in allow), dagster=dagster or before.dagster,
    )  # fmt: skip


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise SurveyError(
            f"--allow {text} is no network ({error})", "CIDR", "for instance 10.1.0.0/16, or 10.1.2.3/32"
        ) from None
    if network.prefixlen == 0:
        raise SurveyError(f"--allow {text} is the whole internet", "your cluster's network", "name it, in CIDR")
    return str(network)


def _require_no_other_registry(cluster: Cluster, settings: ClusterSettings) -> None:
    uri = registry_of(cluster)
    if uri is None or (cluster.exists and uri == registry_uri(settings)):
        return
    from sqlalchemy.engine import make_url

    if uri.startswith("postgresql") and make_url(uri).host == LOOPBACK and not cluster.exists:
        raise SurveyError(
            f"{cluster.root} is a repository whose database, {uri}, is not in {cluster.folder}",
            fix=f"`proc-decam db restore {cluster.root} BACKUP` makes it anew from a backup",
        )
    kind = "an SQLite file" if uri.startswith("sqlite") else make_url(uri).render_as_string()
    raise SurveyError(
        f"{cluster.root} is a repository already, and its registry is {kind}",
        "a folder without a repository: a registry does not move to another database",
        f"`proc-decam db create {cluster.root}-pg`, and ingest the raws there; what was made from them follows with "
        f"`butler transfer-datasets {cluster.root} {cluster.root}-pg --collections COLLECTION`",
    )


def _create_repository(cluster: Cluster, user: ServerUser, engine: str, exposures: "Table | None") -> None:
    from proc_decam_dagster.repository import create_repository

    settings = cluster.settings
    if registry_schemas(cluster, user, settings.database):
        raise SurveyError(
            f"database {settings.database} holds a registry, but {cluster.butler_file} is gone",
            "both, or neither",
            "restore that file from a backup; or, if the registry is no longer wanted, remove "
            f"{cluster.folder} after `proc-decam db stop {cluster.root}`",
        )
    try:
        made = create_repository(cluster.root, engine=engine, exposures=exposures, registry_db=registry_uri(settings))
        if exposures is not None:
            made.remember_exposures(exposures)
        made.close()
    except BaseException:
        # The database was empty before, and is to be empty for the next attempt.
        if registry_of(cluster) is None:
            sql(cluster, user, f"DROP DATABASE IF EXISTS {settings.database} WITH (FORCE);")
            ensure_registry_database(cluster, user)
        raise
