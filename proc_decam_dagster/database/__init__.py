"""A repository's own Postgres cluster, for the Butler's registry and, if asked, for Dagster's storage."""

from proc_decam_dagster.database.backup import backup, restore
from proc_decam_dagster.database.cluster import DATABASE, PORT, Cluster
from proc_decam_dagster.database.create import Created, create_database
from proc_decam_dagster.database.roles import grant
from proc_decam_dagster.database.service import start_database, stop_database
from proc_decam_dagster.database.status import Status, database_status

__all__ = [
    "DATABASE",
    "PORT",
    "Cluster",
    "Created",
    "Status",
    "backup",
    "create_database",
    "database_status",
    "grant",
    "restore",
    "start_database",
    "stop_database",
]
