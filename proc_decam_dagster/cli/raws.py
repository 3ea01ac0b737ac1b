"""Commands about raws in a repository: ingest them, tag them by night and proc type, define visits."""

from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import (
    Many,
    command,
    image_dir_option,
    images_of,
    repo_argument,
    select_option,
    workers_option,
)
from proc_decam_dagster.cli.common import select as selected

KEYS = "{keys}"


@command(
    "ingest",
    example="proc-decam ingest ./data/exposures.ecsv -b ./repo --image-dir ./data/images --select night=20190401",
)
@click.argument("exposures_file", type=click.Path(path_type=Path))
@click.option("-b", "--repo", type=click.Path(path_type=Path), required=True, help="Repository.")
@image_dir_option
@select_option
@click.option(
    "--collection", default="DECam/raw/all", show_default=True, help=f"RUN; {KEYS} makes one from --collection-keys."
)
@click.option(
    "--collection-keys", cls=Many, split=True, default=["night", "obs_type", "band"], show_default=True,
    metavar="COLUMN …", help=f"Columns whose values name the RUNs of --collection {KEYS}.",
)  # fmt: skip
@workers_option("Processes that read headers.")
@click.option("--reingest", is_flag=True, help="Replace raws that are there.")
@click.option(
    "--transfer", type=click.Choice(["direct", "copy", "symlink"]), default="direct", show_default=True,
    help="Whether files stay where they are, are copied or linked.",
)  # fmt: skip
def ingest(
    exposures_file, repo, image_dir, select: tuple, collection, collection_keys, workers, reingest, transfer
) -> None:  # fmt: skip
    """Ingest raw files; those that are in the repository are skipped. A bad file is named, and the others go on."""
    from proc_decam_dagster.survey.exposures import read_exposures

    table = selected(read_exposures(exposures_file), select)
    images = images_of(exposures_file, image_dir)
    from proc_decam_dagster.repository import ingest_raws, open_repository

    repository = open_repository(repo)
    failed = None
    for run, part in _groups(table, collection, collection_keys):
        with show.Progress("ingest") as progress:
            report = ingest_raws(
                repository, part, images, transfer=transfer, jobs=workers, reingest=reingest, collection=run,
                progress=progress.files,
            )  # fmt: skip
        show.ingested(report)
        failed = failed or (report if report.failed else None)
    if failed is not None:
        failed.raise_on_failure()


@command("raw", example="proc-decam raw ./repo bias 20190401")
@repo_argument
@click.argument("obs_type", metavar="PROC_TYPE")
@click.argument("night")
def raw(repo, obs_type, night) -> None:
    """Tag a night's raws for a proc type into NIGHT/PROC_TYPE/raw. PROC_TYPE is bias, flat, drp or science."""
    from proc_decam_dagster.repository import open_repository, tag_raws
    from proc_decam_dagster.survey.collections import raw_collection
    from proc_decam_dagster.survey.proc_types import proc_type

    row = proc_type(obs_type)
    count = tag_raws(open_repository(repo), night, row.name)
    click.echo(f"{raw_collection(night, row.name)}: {count} raws")


@command("define-visits", example="proc-decam define-visits ./repo 20190401")
@repo_argument
@click.argument("nights", metavar="NIGHT…", nargs=-1, required=True)
def define_visits(repo, nights) -> None:
    """Define the visits of the science exposures of nights; visits that are there stay."""
    from proc_decam_dagster.repository import define_visits as define
    from proc_decam_dagster.repository import open_repository

    repository = open_repository(repo)
    show.table(("night", "new visits"), [(night, define(repository, night)) for night in nights])


def _groups(table, collection: str, keys):
    """Return (RUN, rows): one of the given name, or one for each combination of values of the keys."""
    if collection != KEYS:
        return [(collection, table)]
    missing = [k for k in keys if k not in table.colnames]
    if missing:
        raise click.UsageError(f"--collection-keys: the table has no column {', '.join(missing)}")
    groups = table.group_by(list(keys)).groups
    return [("/".join(str(part[0][k]).replace(" ", "_") for k in keys), part) for part in groups]
