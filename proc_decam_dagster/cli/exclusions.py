"""Commands about the survey's list of exclusions: bad exposures, CCDs and amplifiers, each with its reason."""

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, command, repo_argument

reason_option = click.option("--reason", default="", help="Why; others will want to know.")


@command(
    "exclude",
    example='proc-decam exclude ./repo --exposures 845678 --reason "telescope moved"\n'
    'proc-decam exclude ./repo --detectors 61 --reason "dead CCD"\n'
    'proc-decam exclude ./repo --detectors 31 --amplifier B --nights "2019.*" --reason "unstable gain"',
)
@repo_argument
@click.option("--exposures", cls=Many, split=True, metavar="EXPNUM …", help="Only these exposures.")
@click.option("--detectors", cls=Many, split=True, metavar="N …", help="Only these CCDs (1 to 62).")
@click.option("--amplifier", default="", help="A or B: mask this amplifier of the CCDs, and keep the other.")
@click.option("--nights", default="", help="Only nights that match this regular expression.")
@reason_option
def exclude(repo, exposures, detectors, amplifier, nights, reason) -> None:
    """Leave out exposures, CCDs or amplifiers from now on.

    What is named together is left out together: `--exposures 845678 --detectors 3` leaves out one CCD of one exposure.
    Everything that runs from now on honours the list, from a terminal and from Dagster. What was made before stays:
    `proc-decam stale` shows it, with the commands that make it anew. Every run records the list's entries.
    """
    from proc_decam_dagster import repository as repositories

    entry = repositories.exclude(
        repositories.open_repository(repo), reason, exposures=_numbers(exposures, "--exposures"),
        detectors=_numbers(detectors, "--detectors"), nights=nights, amplifier=amplifier.upper(),
    )  # fmt: skip
    click.echo(f"entry {entry}")


@command("include", example='proc-decam include ./repo 3 --reason "was another exposure"')
@repo_argument
@click.argument("number", type=int, metavar="ENTRY")
@reason_option
def include(repo, number, reason) -> None:
    """Take back an entry of the list of exclusions, by its number. The list keeps both."""
    from proc_decam_dagster import repository as repositories

    click.echo(f"entry {repositories.include(repositories.open_repository(repo), number, reason)}")


@command("exclusions", example="proc-decam exclusions ./repo\nproc-decam exclusions ./repo --history")
@repo_argument
@click.option("--history", is_flag=True, help="Show every entry, also those taken back.")
def exclusions(repo, history) -> None:
    """Show the list of exclusions. Its version is the number of entries ever made."""
    from proc_decam_dagster import repository as repositories

    listed = repositories.exclusions(repositories.open_repository(repo))
    entries = listed.history if history else listed.current
    show.table(
        ("entry", "what it does", "reason", "who", "when"),
        [(e.number, e.what, e.reason, e.who, e.when) for e in entries],
    )
    click.echo(f"version {listed.version}")


def _numbers(words, option: str) -> list[int]:
    wrong = [w for w in words if not (w.isascii() and w.isdigit())]
    if wrong:
        raise click.UsageError(f"{option}: {', '.join(wrong)} is no number")
    return [int(w) for w in words]
