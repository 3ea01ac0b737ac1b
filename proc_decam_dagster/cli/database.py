"""Commands of a repository's own Postgres database."""

from pathlib import Path

import click

from proc_decam_dagster.cli.common import SurveyGroup, command, repo_argument

STOPPED = 3
"""Exit code of `db status` if the server is not running."""
EXAMPLE = "proc-decam db create ./repo ; proc-decam db status ./repo ; proc-decam db stop ./repo"


@click.group("db", cls=SurveyGroup, example=EXAMPLE)
def db() -> None:
    """A repository's own Postgres database, for the Butler's registry and for Dagster.

    It lies in REPO/_registry, listens to this machine only unless told otherwise, and keeps its password in
    ~/.lsst/db-auth.yaml (or LSST_DB_AUTH). Every action has --help, --log-level and --debug.
    """


port_option = click.option("--port", type=click.IntRange(1, 65535), help="Port.  [default: 55432, or as created]")
name_option = click.option("--db-name", help="Database of the registry.  [default: proc_decam_registry, or as created]")


@command(
    "create",
    example="proc-decam db create ./repo --exposures ./data/exposures.ecsv\n"
    "proc-decam db create ./repo --listen 10.1.0.5 --allow 10.1.0.0/16\n"
    "proc-decam db create ./repo --dagster",
)
@repo_argument
@port_option
@name_option
@click.option("--listen", metavar="ADDRESS", help="Listen to other machines, too, over TLS; 127.0.0.1 takes it back.")
@click.option("--allow", metavar="CIDR", multiple=True, help="Network that may connect; may be given several times.")
@click.option("--dagster", is_flag=True, help="Make a database for Dagster's storage, and print its dagster.yaml.")
@click.option(
    "--engine", type=click.Choice(["embedded", "science-pipelines"]), default="embedded", show_default=True,
    help="Whose instrument and pipelines a new repository gets.",
)  # fmt: skip
@click.option(
    "--exposures", "exposures_file", type=click.Path(path_type=Path),
    help="Exposure table: a new repository gets a skymap that fits its science exposures.",
)  # fmt: skip
def create(repo, port, db_name, listen, allow, dagster, engine, exposures_file) -> None:
    """Create the database and start it, and create the repository on it if there is none, as `create` does.

    What is there stays as it is; other options change it.
    """
    from proc_decam_dagster.survey.exposures import read_exposures

    table = read_exposures(exposures_file) if exposures_file else None
    from proc_decam_dagster.database import create_database

    done = create_database(
        repo, port=port, database=db_name, listen=listen, allow=allow, dagster=dagster, engine=engine, exposures=table,
        say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    what = [w for w, new in (("database", done.new_cluster), ("repository", done.new_repository)) if new]
    click.echo(f"{done.cluster.root}: {' and '.join(what) + ' created' if what else 'nothing to create'}; running")
    _tell_credentials(done.cluster)
    if dagster:
        click.echo(f"For Dagster, put this into dagster.yaml, and run it with the environment of "
                   f"{done.cluster.dagster_secret}:\n\n{done.cluster.dagster_file.read_text()}")  # fmt: skip


@command("start", example="proc-decam db start ./repo\nproc-decam db start ./repo --port 55433")
@repo_argument
@port_option
@click.option("--db-name", hidden=True)
def start(repo, port, db_name) -> None:
    """Start the server; --port moves it to another port, and the repository's configuration follows."""
    from proc_decam_dagster.database import Cluster, start_database

    started = start_database(repo, port=port)
    click.echo(f"{repo}: {'started' if started else 'running already'}, port {Cluster(repo).settings.port}")


@command("stop", example="proc-decam db stop ./repo")
@repo_argument
@click.option("--port", type=int, hidden=True)
@click.option("--db-name", hidden=True)
def stop(repo, port, db_name) -> None:
    """Stop the server. Transactions under way are rolled back."""
    from proc_decam_dagster.database import stop_database

    click.echo(f"{repo}: {'stopped' if stop_database(repo) else 'was not running'}")


@command("status", example="proc-decam db status ./repo")
@repo_argument
@click.pass_context
def status(ctx, repo) -> None:
    """Show whether the server runs, its version, address, size, connections and repositories.

    Exit code 3: it is not running.
    """
    from proc_decam_dagster.database import database_status

    found = database_status(repo)
    rows = [
        ("server", f"running, process {found.pid} since {found.since}" if found.running else "not running"),
        ("version", f"PostgreSQL {found.version}, run by {found.user}"),
        ("registry", found.uri),
        ("listens to", f"{found.listen}: {', '.join(found.allow)} (TLS)" if found.listen else "this machine"),
    ]
    if found.running:
        rows += [
            ("connections", f"{found.connections} of {found.max_connections}"),
            *(("database", f"{name}, {size / 1e6:.1f} MB") for name, size in found.databases.items()),
            *(
                ("repository", f"{repo} in {name}, schema {schema}")
                for name, schemas in found.repositories.items()
                for schema in schemas
            ),
            ("people", ", ".join(found.people) or "nobody beside its owner"),
        ]
    for name, text in rows:
        click.echo(f"{name + ':':<13}{text}")
    if not found.running:
        ctx.exit(STOPPED)


@command("grant", example="proc-decam db grant ./repo maria\nproc-decam db grant ./repo guest --read-only")
@repo_argument
@click.argument("user")
@click.option("--to", type=click.Path(path_type=Path), help="File for the credentials.  [default: USER-db-auth.yaml]")
@click.option("--read-only", is_flag=True, help="The person may read, and not write.")
@click.option("--new-password", is_flag=True, help="Give another password to someone who has access already.")
def grant(repo, user, to, read_only, new_password) -> None:
    """Give a person a role of their own. The password goes into a file that only you can read."""
    from proc_decam_dagster.database import grant as give

    path = give(repo, user, to=to, read_only=read_only, renew=new_password)
    may = "may read" if read_only else "may read and write"
    if path is None:
        click.echo(f"{user} {may}; the password is the one given before (--new-password makes another)")
    else:
        click.echo(f"{user} {may}; hand over {path}, to be put into {user}'s ~/.lsst/db-auth.yaml")


dagster_option = click.option("--dagster", is_flag=True, help="Dagster's storage instead of the registry.")


@command("backup", example="proc-decam db backup ./repo registry.dump")
@repo_argument
@click.argument("file", type=click.Path(path_type=Path))
@dagster_option
def backup(repo, file, dagster) -> None:
    """Write the registry into FILE, while others go on working, and read it back.

    The files of the repository itself, butler.yaml among them, are not in it.
    """
    from proc_decam_dagster.database import backup as write

    size = write(repo, file, dagster=dagster)
    click.echo(f"{file}: {size / 1e6:.1f} MB, read back whole")


@command("restore", example="proc-decam db restore ./repo registry.dump")
@repo_argument
@click.argument("file", type=click.Path(path_type=Path))
@dagster_option
def restore(repo, file, dagster) -> None:
    """Put the registry of FILE in place of the present one, which is kept under another name.

    Those who are connected are disconnected. Where REPO has lost its database, a new one is made.
    """
    from proc_decam_dagster.database import restore as put

    kept = put(repo, file, dagster=dagster)
    click.echo(f"{repo}: restored from {file}; what was there is kept as database {kept} until the next restore")


def _tell_credentials(cluster) -> None:
    from proc_decam_dagster.database.credentials import auth_file

    click.echo(f"credentials: {auth_file()}", err=True)


for action in (create, start, stop, status, grant, backup, restore):
    db.add_command(action)
