"""The command that asks Dagster for a backfill."""

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, command


@command(
    "backfill",
    example="proc-decam backfill '2019.*' --assets bias,flat,calexps\n"
    "proc-decam backfill '201904(01|02)' --assets calexps --missing --dry-run\n"
    "proc-decam backfill '2019.*' --assets meanclip/diffs --coadd-subset 2019",
)
@click.argument("nights", metavar="NIGHTS")
@click.option("--assets", cls=Many, split=True, required=True, metavar="ASSET …", help="Names as the graph shows them.")
@click.option("--coadd-subset", default="", help="Of coadd_inputs, coadds, diffs.")
@click.option("--template-types", cls=Many, split=True, metavar="TYPE …", help="Of coadd_inputs, coadds, diffs.")
@click.option("--missing", is_flag=True, help="Only what was never materialised.")
@click.option("--dry-run", is_flag=True, help="Show what it would make, and ask for nothing.")
def backfill(nights, assets, coadd_subset, template_types, missing, dry_run) -> None:
    """Ask Dagster to make assets of all nights that match a regular expression.

    The instance is that of DAGSTER_HOME. Its daemon (`make dev`, or `dagster-daemon run`) launches the runs, within
    the pools of the instance; a night that fails stops no other. The backfill is shown in the UI, and ended there.
    """
    from proc_decam_dagster.bridge import backfills

    with backfills.open_instance() as instance:
        found = backfills.wanted(
            instance, nights, assets, coadd_subset=coadd_subset, template_types=template_types, missing=missing
        )
        show.table(
            ("asset", "partitions", "there already", "first", "last"),
            [
                (key.to_user_string(), len(names), found.there[key], *((names[0], names[-1]) if names else ("", "")))
                for key, names in found.partitions.items()
            ],
        )
        if not found.total:
            click.echo("nothing to make")
        elif not dry_run:
            title = f"{', '.join(assets)} of {nights}"
            click.echo(f"backfill {backfills.request(instance, found, title=title)}: {found.total} partitions")
            if not backfills.daemon_runs(instance):
                click.echo(
                    "no daemon is running that would launch it: start `make dev` or `dagster-daemon run`", err=True
                )
