"""The command that cleans up: to the trash, back from it, and out of it for good."""

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, command, repo_argument


@command(
    "clean",
    example="proc-decam clean ./repo\n"
    'proc-decam clean ./repo --chains "2019*/drp" --datasets postISRCCD --go\n'
    "proc-decam clean ./repo --bring-back 20261122T131510Z\n"
    "proc-decam clean ./repo --empty-trash",
)
@repo_argument
@click.option("--chains", default="*", show_default=True, help="Only chains that match this shell-like pattern.")
@click.option(
    "--datasets", cls=Many, split=True, metavar="DATASET …",
    help="Remove all datasets of these types, also those that are in use, rather than what is superseded.",
)  # fmt: skip
@click.option("--go", is_flag=True, help="Do it. Without, it is only shown.")
@click.option("--bring-back", metavar="NAME", help="Bring back a clean-up from the trash.")
@click.option("--empty-trash", is_flag=True, help="Free the space of what is in the trash, for good.")
def clean(repo, chains, datasets, go, bring_back, empty_trash) -> None:
    """Move what no chain finds any more to the trash.

    That is what a newer RUN of the same chain has as well. What a coadd's inputs or a calibration collection hold
    stays, and so do raws, and the configurations of RUNs of which any data stay. Without --go nothing is changed. The
    trash is part of the repository: its space is free when it is emptied.
    """
    from proc_decam_dagster import repository as repositories

    if sum((go, bool(bring_back), empty_trash)) > 1:
        raise click.UsageError("--go, --bring-back and --empty-trash exclude one another")
    repository = repositories.open_repository(repo)
    if bring_back:
        click.echo(f"brought back {repositories.bring_back(repository, bring_back)} datasets")
    elif empty_trash:
        gone = repositories.empty_trash(repository)
        click.echo(f"freed {_gb(sum(t.bytes for t in gone))} of {len(gone)} clean-ups")
    else:
        rubbish = repositories.find_rubbish(repository, chains, datasets)
        show.table(
            ("chain", "datasets", "GB", "kept: in use elsewhere"),
            [(r.chain, len(r.refs), f"{r.bytes / 1e9:.3f}", r.kept) for r in rubbish],
        )
        number, size = sum(len(r.refs) for r in rubbish), sum(r.bytes for r in rubbish)
        if not number:
            click.echo("nothing to remove")
        elif go:
            thrown = repositories.remove(repository, rubbish)
            click.echo(
                f"moved {thrown.datasets} datasets to the trash; emptying it frees {_gb(thrown.bytes)}; "
                f"`proc-decam clean {repo} --bring-back {thrown.name}` brings them back"
            )
        else:
            click.echo(f"{number} datasets, {_gb(size)}: add --go to move them to the trash")
    for thrown in repositories.trash(repository):
        click.echo(f"in the trash: {thrown.name}, {thrown.datasets} datasets, {_gb(thrown.bytes)}")


def _gb(size: float) -> str:
    return f"{size / 1e9:.3f} GB"
