"""`proc-decam failures`: what failed, cause by cause."""

import json

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import command, repo_argument
from proc_decam_dagster.errors import SurveyError

_SHOWN_CHAINS = 5


@command("failures", example="proc-decam failures ./repo\nproc-decam failures ./repo 20190401/drp --json")
@repo_argument
@click.argument("collection", required=False)
@click.option("--rebuild", is_flag=True, help="Read the logs and metadata of runs that others have made, first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def failures(repo, collection, rebuild, as_json) -> None:
    """List the quanta that failed, cause by cause, with the next command to type for each.

    COLLECTION is a chain, for instance 20190401/drp; without it all are listed. In a message's common part, # stands
    for a number and … for what differs. What was mended and has succeeded since is not listed.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from proc_decam_dagster.execution import Ledger
    from proc_decam_dagster.execution.causes import failures_of, rebuild_all
    from proc_decam_dagster.execution.step import RETRIES
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.chains import processing_chains

    repository = open_repository(repo)
    if collection is not None and collection not in processing_chains(repository.butler()):
        raise SurveyError(
            f"{collection} is no processing chain of {repository.root}", "for instance 20190401/drp",
            f"`proc-decam status {repo}` lists them",
        )  # fmt: skip
    try:
        Ledger.of(repository).take_in()
    except (OSError, SQLAlchemyError) as error:  # whoever may only read sees what stands in the ledger
        click.echo(f"what drivers that died have left is not counted: {str(error).splitlines()[0]}", err=True)
    if rebuild:
        with show.Progress("chains read") as progress:
            rebuilt = rebuild_all(repository, collection, progress.files)
        click.echo(f"{rebuilt} attempts of runs that others have made were entered", err=True)
    found = failures_of(repository, collection, retries=RETRIES)
    if as_json:
        causes = [cause.to_dict() for cause in found.causes]
        click.echo(json.dumps({"summary": str(found), "blocked": found.blocked, "causes": causes}, indent=1))
        return
    for number, cause in enumerate(found.causes, 1):
        click.echo(f"{number}. {cause.exception}: {cause.pattern}")
        click.echo(f"   {len(cause.quanta)} {cause.kind}, {cause.attempts} attempts: {', '.join(cause.tasks)}")
        for line in [*cause.data_ids[:_SHOWN_CHAINS], *_more(cause.data_ids)]:
            click.echo(f"   {line}")
        for line in [*cause.commands[:_SHOWN_CHAINS], *_more(cause.commands)]:
            click.echo(f"   next: {line}")
    click.echo(str(found))


def _more(lines: list[str]) -> list[str]:
    left = len(lines) - _SHOWN_CHAINS
    return [f"… and {left} more"] if left > 0 else []
