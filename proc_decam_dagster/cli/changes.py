"""Commands about what changed: two runs compared, and what is stale since something was made anew."""

import json

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import command, repo_argument

SHOWN = 20


@command(
    "compare",
    example="proc-decam compare ./repo 20190401/drp\n"
    "proc-decam compare ./repo 20190401/drp 20190402/drp\n"
    "proc-decam compare ./repo 2019/mean/coadd 2019/meanclip/coadd",
)
@repo_argument
@click.argument("first", metavar="COLLECTION")
@click.argument("second", metavar="[OTHER]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def compare(repo, first, second, as_json) -> None:
    """Compare two runs: software, configuration, what was processed, figures.

    With one chain, its newest RUN of each step is compared with the one before; with two collections (RUNs or chains),
    these are.
    """
    from proc_decam_dagster import report
    from proc_decam_dagster.repository import open_repository

    repository = open_repository(repo)
    sides = ([first], [second]) if second else report.two_newest(repository, first)
    made = report.compare(repository, *sides)
    if as_json:
        click.echo(json.dumps(made.to_dict(), indent=1, default=str))
        return
    for name, side in (("first", made.first), ("second", made.second)):
        click.echo(f"{name}: {', '.join(side)}")
    _differences("software", "package", made.software)
    _differences("configuration", "field", made.configuration)
    rows = [
        (task, len(one), len(two), ", ".join([*one, *two][:3]) + (" …" if len(one) + len(two) > 3 else ""))
        for task, (one, two) in made.inputs.items()
    ]
    if rows:
        show.table(("processed: task", "only first", "only second", "for instance"), rows)
    else:
        click.echo("processed: the same")
    show.table(("figure", "first", "second"), [(k, _number(a), _number(b)) for k, (a, b) in made.figures.items()])


@command("stale", example='proc-decam stale ./repo\nproc-decam stale ./repo "20190401/*"')
@repo_argument
@click.argument("chains", default="*", metavar="[CHAINS]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def stale(repo, chains, as_json) -> None:
    """Show products that are older than what they were made from, why, and the command that makes them anew.

    CHAINS is a shell-like pattern of chains' names. After a rerun of one CCD or visit, this shows what depends on it.
    The lines stand in the order in which to run the commands.
    """
    from dataclasses import asdict

    from proc_decam_dagster.repository import find_stale, open_repository

    found = find_stale(open_repository(repo), chains)
    if as_json:
        click.echo(json.dumps([asdict(s) for s in found], indent=1, default=str))
        return
    if not found:
        click.echo("nothing is stale")
        return
    show.table(
        ("chain", "dataset", "stale", "because", "for instance"),
        [
            (s.chain, s.dataset, len(s.data_ids), s.because, " ".join(f"{k}={v}" for k, v in s.data_ids[0].items()))
            for s in found
        ],
    )
    for line in dict.fromkeys(s.command for s in found):
        click.echo(f"next: {line}")


def _differences(what: str, column: str, found: dict) -> None:
    if not found:
        click.echo(f"{what}: the same")
        return
    rows = [(key, _word(a), _word(b)) for key, (a, b) in list(found.items())[:SHOWN]]
    show.table((f"{what}: {column}", "first", "second"), rows)
    if len(found) > SHOWN:
        click.echo(f"… and {len(found) - SHOWN} more (--json gives all)")


def _word(value: object) -> str:
    return "-" if value is None else str(value)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.6g}"
