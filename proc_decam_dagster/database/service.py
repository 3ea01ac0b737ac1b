"""Start and stop, as a user means them: with the credentials in place, and on another port if asked."""

import os
from dataclasses import replace

import yaml

from proc_decam_dagster.database.cluster import Cluster, ClusterSettings, place, registry_uri
from proc_decam_dagster.database.configuration import configure
from proc_decam_dagster.database.credentials import require_usable
from proc_decam_dagster.database.dagster_storage import ensure_dagster_database
from proc_decam_dagster.database.files import write_file
from proc_decam_dagster.database.programs import ServerUser
from proc_decam_dagster.database.roles import ensure_credentials, ensure_registry_database
from proc_decam_dagster.database.server import reload, require_free_port, running, start, stop
from proc_decam_dagster.errors import SurveyError


def start_database(root: str | os.PathLike, *, port: int | None = None) -> bool:
    """Start a repository's server; return `False` if it was running already.

    Parameters
    ----------
    port : `int`, optional
        Move to another port; the Butler's configuration and credentials follow.
    """
    cluster = Cluster(root)
    cluster.require()
    require_usable()
    with cluster.locked():
        user = cluster.server_user()
        settings = cluster.settings
        return bring_up(cluster, user, replace(settings, port=port or settings.port))


def stop_database(root: str | os.PathLike) -> bool:
    """Stop a repository's server; return `False` if it was not running."""
    cluster = Cluster(root)
    cluster.require()
    with cluster.locked():
        return stop(cluster, cluster.server_user())


def bring_up(cluster: Cluster, user: ServerUser, settings: ClusterSettings) -> bool:
    """Bring the server into the state that its settings ask for; return whether it was started."""
    before = cluster.settings if cluster.exists else settings
    moved = (settings.port, settings.listen) != (before.port, before.listen)
    if moved:
        require_free_port(cluster, settings, before)
    settings = replace(settings, host=before.host)
    if not cluster.exists or settings != before:
        if moved and running(cluster, user):
            stop(cluster, user)
        cluster.write_settings(settings)
    if configure(cluster, user) and running(cluster, user):
        stop(cluster, user)
    started = start(cluster, user)
    if not started:
        reload(cluster, user)
    ensure_registry_database(cluster, user)
    ensure_credentials(cluster, user, before=place(before) if moved else "")
    if settings.dagster:
        ensure_dagster_database(cluster, user)
    if moved:
        _follow(cluster, before, settings)
    return started


def registry_of(cluster: Cluster) -> str | None:
    """Return the URI of the repository's registry; `None` if there is no repository."""
    if not cluster.butler_file.is_file():
        return None
    try:
        config = yaml.safe_load(cluster.butler_file.read_text()) or {}
        return str((config.get("registry") or {}).get("db") or "sqlite:///<butlerRoot>/gen3.sqlite3")
    except (yaml.YAMLError, AttributeError) as error:
        raise SurveyError(
            f"{cluster.butler_file} cannot be read ({' '.join(str(error).split())})", "a Butler's configuration",
            "mend it",
        ) from None  # fmt: skip


def _follow(cluster: Cluster, before: ClusterSettings, settings: ClusterSettings) -> None:
    """Let the Butler's configuration say where the registry has moved to."""
    if registry_of(cluster) == registry_uri(before):
        config = yaml.safe_load(cluster.butler_file.read_text())
        config["registry"]["db"] = registry_uri(settings)
        mode = cluster.butler_file.stat().st_mode & 0o777
        write_file(cluster.butler_file, yaml.safe_dump(config, sort_keys=False), mode=mode, owner=cluster.butler_file)
