"""`proc-decam page`: static pages of a survey and of its nights."""

from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import command, repo_argument


@command("page", example='proc-decam page ./repo\nproc-decam page ./repo "2019040[1-3]" --output ./public')
@repo_argument
@click.argument("nights", required=False)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder of the pages.")
def page(repo, nights, output) -> None:
    """Make the survey's page, and those of the nights that have changed since theirs was made.

    NIGHTS is a night or a regular expression: their pages are made anew, changed or not. The pages stand in --output,
    else in REPO/proc_decam/pages; index.html shows how each stage of each night stands, CCD by CCD, with causes and
    what to do next. Each file holds all that it shows: it can be copied, mailed, or put on any web server.
    """
    from proc_decam_dagster.execution.status import survey_status
    from proc_decam_dagster.report import make_pages
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.survey.nights import matching_nights

    repository = open_repository(repo)
    chosen = None if nights is None else matching_nights(nights, survey_status(repository).nights)
    with show.Progress("pages") as progress:
        made = make_pages(repository, output, chosen, progress=progress.files)
    for path in made.nights.values():
        click.echo(f"made {path}")
    click.echo(f"made {made.index}: {made.known} nights, {len(made.nights)} pages of nights made anew")
