"""`proc-decam status`: nights and templates at a glance."""

import json

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import command, repo_argument


@command("status", example="proc-decam status ./repo\nproc-decam status ./repo --json | jq .nights")
@repo_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(repo, as_json) -> None:
    """Show how each night and template stands: the state, and how many detectors (patches) are through all steps.

    ok; partial: some failed, or steps are left to do; failed: all did; running; unfinished: a run was interrupted;
    missing: there are raws and nothing was run; unknown: others ran it (`proc-decam failures REPO --rebuild` reads
    their logs); - : there are no raws. Of bias and flat it is the certified masters that are counted.
    """
    from proc_decam_dagster.execution.status import FAILED, PARTIAL, UNFINISHED, survey_status
    from proc_decam_dagster.repository import open_repository

    found = survey_status(open_repository(repo))
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return
    if found.nights:
        rows = [(night, *(str(cells[column]) for column in found.columns)) for night, cells in found.nights.items()]
        show.table(("night", *found.columns), rows)
    else:
        click.echo("no nights yet: `proc-decam night` processes them")
    if found.templates:
        click.echo()
        show.table(("template", "stands"), [(name, str(cell)) for name, cell in found.templates.items()])
    cells = [*found.templates.values(), *(cell for row in found.nights.values() for cell in row.values())]
    if any(cell.state in (PARTIAL, FAILED, UNFINISHED) for cell in cells):
        click.echo(f"`proc-decam failures {repo}` says what failed and what to do", err=True)
