"""A second database of the cluster, for Dagster's own storage, and the block of ``dagster.yaml`` that names it."""

import yaml

from proc_decam_dagster.database.cluster import DAGSTER_DATABASE, Cluster, ClusterSettings, address
from proc_decam_dagster.database.credentials import new_password
from proc_decam_dagster.database.files import write_file
from proc_decam_dagster.database.programs import ServerUser
from proc_decam_dagster.database.roles import DAGSTER, has_database, has_role, set_password, sql

VARIABLE = "PROC_DECAM_DAGSTER_PASSWORD"


def ensure_dagster_database(cluster: Cluster, user: ServerUser) -> None:
    """Make Dagster's database and role, ``dagster.yaml`` and, for its owner's eyes only, ``dagster.env``."""
    if not has_role(cluster, user, DAGSTER):
        sql(cluster, user, f"CREATE ROLE {DAGSTER} LOGIN;")
    if not has_database(cluster, user, DAGSTER_DATABASE):
        sql(cluster, user, f"CREATE DATABASE {DAGSTER_DATABASE} OWNER {DAGSTER} TEMPLATE template0;")
    sql(cluster, user, f"REVOKE ALL ON DATABASE {DAGSTER_DATABASE} FROM PUBLIC;")
    if not cluster.dagster_secret.is_file():
        password = new_password()
        write_file(cluster.dagster_secret, f"{VARIABLE}={password}\n", mode=0o600, owner=cluster.root)
        set_password(cluster, user, DAGSTER, password)
    write_file(cluster.dagster_file, storage_block(cluster.settings), owner=cluster.root)


def storage_block(settings: ClusterSettings) -> str:
    """Return the YAML of ``storage:``; the password comes from the environment."""
    host, query = address(settings)
    where = {
        "username": DAGSTER, "password": {"env": VARIABLE}, "hostname": host, "db_name": DAGSTER_DATABASE,
        "port": settings.port,
    }  # fmt: skip
    if query:
        where["params"] = dict(pair.split("=") for pair in query[1:].split("&"))
    return yaml.safe_dump({"storage": {"postgres": {"postgres_db": where}}}, sort_keys=False)
