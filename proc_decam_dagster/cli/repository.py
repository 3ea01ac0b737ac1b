"""Commands that make a repository and its skymap."""

from pathlib import Path

import click

from proc_decam_dagster.cli.common import command, repo_argument


@command(
    "create",
    example="proc-decam create ./repo --exposures ./data/exposures.ecsv\n"
    "proc-decam create ./repo --registry-db postgresql://user@host/registry",
)
@repo_argument
@click.option(
    "--exposures", "exposures_file", type=click.Path(path_type=Path),
    help="Exposure table: adds a skymap that fits its science exposures, which becomes the survey's.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["embedded", "science-pipelines"]), default="embedded", show_default=True,
    help="Whose instrument and pipelines.",
)  # fmt: skip
@click.option("--registry-db", help="URI of the registry's database.  [default: SQLite in the repository]")
@click.option("--seed-config", type=click.Path(path_type=Path, exists=True), help="YAML of Butler configuration.")
def create(repo, exposures_file, engine, registry_db, seed_config) -> None:
    """Create a repository with its instrument, curated calibrations and skymap.

    Does what `butler create`, `register-instrument`, `write-curated-calibrations` and `register-skymap` do together.
    """
    from proc_decam_dagster.survey.exposures import read_exposures

    table = read_exposures(exposures_file) if exposures_file else None
    from proc_decam_dagster.repository import create_repository

    repository = create_repository(repo, engine=engine, exposures=table, registry_db=registry_db, seed=seed_config)
    if table is not None:
        repository.remember_exposures(table)
    click.echo(f"{repository.root}: engine {engine}, instrument DECam, skymap {repository.settings.skymap}")


@command("skymap", example="proc-decam skymap ./repo ./data/exposures.ecsv")
@repo_argument
@click.argument("exposures_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--name", default="discrete", show_default=True, help="Its name; a skymap never changes.")
def skymap(repo, exposures_file, name) -> None:
    """Add a skymap that fits the survey's footprint, and make it the survey's.

    FILE is an exposure table; the tracts contain the whole camera at each of its science exposures.
    """
    from proc_decam_dagster.survey.exposures import read_exposures

    table = read_exposures(exposures_file)
    from proc_decam_dagster.repository import add_discrete_skymap, open_repository

    repository = open_repository(repo)
    click.echo(f"{repository.root}: skymap {add_discrete_skymap(repository, table, name)}")


@command("take-over", example="proc-decam take-over ./repo --exposures ./data/exposures.ecsv")
@repo_argument
@click.option("--exposures", "exposures_file", type=click.Path(path_type=Path), help="The survey's exposure table.")
@click.option("--skymap", default="", help="The survey's skymap; needed where several are registered.")
def take_over(repo, exposures_file, skymap) -> None:
    """Go on with a repository that the replaced system made.

    Nothing in it is moved or renamed: collections have the same names in both. What was found is told, and what to know
    before going on.
    """
    from proc_decam_dagster.survey.exposures import read_exposures

    table = read_exposures(exposures_file) if exposures_file else None
    from proc_decam_dagster.repository import take_over as take

    found = take(repo, exposures=table, skymap=skymap)
    chains = ", ".join(f"{number} {name}" for name, number in found.chains.items())
    click.echo(f"{repo}: skymap {found.skymap or 'none'}; {len(found.nights)} nights; chains: {chains or 'none'}")
    for tag, nights in found.coadds.items():
        click.echo(f"{tag}: warps of {', '.join(nights) or 'no night'}")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
