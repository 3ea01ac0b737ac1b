"""SQL as the cluster's superuser: databases, roles, and what a person may do."""

import re
from pathlib import Path

import yaml

from proc_decam_dagster.database.cluster import Cluster, place, require_name
from proc_decam_dagster.database.configuration import ADMIN
from proc_decam_dagster.database.credentials import (
    auth_file,
    merge_entry,
    new_password,
    read_entry,
    scram_verifier,
)
from proc_decam_dagster.database.files import write_file
from proc_decam_dagster.database.programs import ServerUser, find_programs
from proc_decam_dagster.database.server import running
from proc_decam_dagster.errors import SurveyError

OWNER = "proc_decam"
"""Owns the registry; whoever has made the cluster connects as this one."""
READERS = "proc_decam_readers"
DAGSTER = "proc_decam_dagster"
PERSON = re.compile(r"[a-z_][a-z0-9_.-]{0,39}")


def sql(cluster: Cluster, user: ServerUser, text: str, database: str = "postgres") -> list[list[str]]:
    """Run SQL as the superuser through the unix socket; return the rows, as text.

    Names that stand in it have been checked by their patterns; no password stands in it.

    Raises
    ------
    SurveyError
        With the server's message.
    """
    programs = find_programs(cluster.version)
    command = [
        programs.path("psql"), "-h", str(cluster.socket_folder), "-p", str(cluster.settings.port), "-U", ADMIN,
        "-d", database, "-XAtqw", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-f", "-",
    ]  # fmt: skip
    done = user.run(command, cluster.folder, text=text)
    if done.returncode:
        raise SurveyError(
            f"the database answers: {' '.join(done.stderr.split())[:300]}", fix=f"see {cluster.log} for more"
        )
    return [line.split("\t") for line in done.stdout.splitlines()]


def has_database(cluster: Cluster, user: ServerUser, name: str) -> bool:
    """Whether the cluster holds a database."""
    return bool(sql(cluster, user, f"SELECT 1 FROM pg_database WHERE datname = '{name}';"))


def has_role(cluster: Cluster, user: ServerUser, name: str) -> bool:
    """Whether the cluster knows a role."""
    return bool(sql(cluster, user, f"SELECT 1 FROM pg_roles WHERE rolname = '{name}';"))


def registry_schemas(cluster: Cluster, user: ServerUser, database: str) -> list[str]:
    """Return the schemas of a database that hold a Butler's registry."""
    return [
        row[0]
        for row in sql(
            cluster,
            user,
            "SELECT schemaname FROM pg_tables WHERE tablename = 'butler_attributes' ORDER BY 1;",
            database,
        )
    ]


def ensure_registry_database(cluster: Cluster, user: ServerUser) -> None:
    """Make the registry's database with its owner, readers and btree_gist, as far as they are not there."""
    for role in (OWNER, READERS):
        if not has_role(cluster, user, role):
            sql(cluster, user, f"CREATE ROLE {role} {'LOGIN' if role == OWNER else 'NOLOGIN'};")
    name = cluster.settings.database
    if not has_database(cluster, user, name):
        sql(cluster, user, f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0;")
        sql(cluster, user, f"SET ROLE {OWNER}; CREATE EXTENSION btree_gist;", name)
    let_read(cluster, user, name)


def let_read(cluster: Cluster, user: ServerUser, database: str) -> None:
    """Let nobody but the registry's own people into its database, and its readers read whatever there will be."""
    text = f"""
        REVOKE ALL ON DATABASE {database} FROM PUBLIC;
        GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {READERS};
        GRANT USAGE ON SCHEMA public TO {READERS};
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READERS};
        GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {READERS};
        ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON TABLES TO {READERS};
        ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON SEQUENCES TO {READERS};
    """
    sql(cluster, user, text, database)


def set_password(cluster: Cluster, user: ServerUser, role: str, password: str) -> None:
    """Give a role a password: the server gets its hash only."""
    sql(cluster, user, f"ALTER ROLE \"{role}\" PASSWORD '{scram_verifier(password)}';")


def ensure_credentials(cluster: Cluster, user: ServerUser, *, before: str = "") -> bool:
    """See to it that the Butler finds the owner's password; return whether `auth_file` changed.

    It stands in the cluster's folder (mode 600), for the users of one machine who share a home with another, and in
    `auth_file`, where the Butler looks. If it is lost, there is a new one.

    Parameters
    ----------
    before : `str`, optional
        Address that the cluster had until now.
    """
    url = place(cluster.settings)
    own = read_entry(cluster.credentials_file, before or url, OWNER) or read_entry(cluster.credentials_file, url, OWNER)
    if own is None or not _is_set(cluster, user):
        own = {"username": OWNER, "password": new_password()}
        set_password(cluster, user, OWNER, own["password"])
    entry = {"url": url, "username": OWNER, "password": own["password"]}
    write_file(cluster.credentials_file, yaml.safe_dump([entry], sort_keys=False), mode=0o600, owner=cluster.root)
    return merge_entry(auth_file(), entry, instead=before)


def _is_set(cluster: Cluster, user: ServerUser) -> bool:
    return sql(cluster, user, f"SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = '{OWNER}';") == [["t"]]


def grant(
    root: str | Path, person: str, *, to: Path | None = None, read_only: bool = False, renew: bool = False
) -> Path | None:
    """Give a person a role of their own, and write its credentials into a file for them.

    A writer works as the registry's owner, so that all can use the tables that any of them makes.

    Parameters
    ----------
    to : `pathlib.Path`, optional
        File for the credentials, mode 600, which the person adds to their ``~/.lsst/db-auth.yaml``.
    read_only : `bool`
        Whether the person may only read.
    renew : `bool`
        Give someone who has access already another password.

    Returns
    -------
    path : `pathlib.Path` or `None`
        The file; `None` if the person had access already: then only `read_only` is brought up to date.
    """
    if not PERSON.fullmatch(person) or person in (ADMIN, OWNER, READERS, DAGSTER, "postgres") or person[:3] == "pg_":
        raise SurveyError(
            f"{person!r} cannot be the name of a person's role", "small letters, digits and _ . -, a letter first",
            "choose another",
        )  # fmt: skip
    cluster, user = require_running(root)
    url = place(cluster.settings)
    to = to or Path(f"{person}-db-auth.yaml")
    known = has_role(cluster, user, person)
    if (not known or renew) and to.exists():
        raise SurveyError(f"{to} exists already", "a new file for the credentials", "give another with --to")
    group, other = (READERS, OWNER) if read_only else (OWNER, READERS)
    text = "" if known else f'CREATE ROLE "{person}" LOGIN;\n'
    text += f'REVOKE {other} FROM "{person}"; GRANT {group} TO "{person}";\n'
    text += f'ALTER ROLE "{person}" ' + ("RESET role;" if read_only else f"SET role TO '{OWNER}';")
    sql(cluster, user, f"SET client_min_messages = error; BEGIN; {text} COMMIT;")
    if known and not renew:
        return None
    entry = {"url": url, "username": person, "password": new_password()}
    note = f"# For {person}: put this first into ~/.lsst/db-auth.yaml (mode 600), then delete this file.\n"
    write_file(to, note + yaml.safe_dump([entry], sort_keys=False), mode=0o600)
    set_password(cluster, user, person, entry["password"])
    return to.resolve()


def require_running(root: str | Path) -> tuple[Cluster, ServerUser]:
    """Return a cluster and its user.

    Raises
    ------
    SurveyError
        If there is none, it is somebody else's, or it does not run.
    """
    cluster = Cluster(root)
    cluster.require()
    user = cluster.server_user()
    require_name(cluster.settings.database, "database")
    if running(cluster, user) is None:
        raise SurveyError(
            f"the database server of {cluster.root} is not running", fix=f"`proc-decam db start {cluster.root}`"
        )
    return cluster, user
