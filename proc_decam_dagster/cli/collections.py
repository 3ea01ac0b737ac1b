"""Commands about Butler collections: chains, tags, certifications."""

import click

from proc_decam_dagster.cli.common import Many, command, repo_argument, template_options


@command(
    "collection",
    example="proc-decam collection ./repo bias 20190401\n"
    "proc-decam collection ./repo diff_drp 20190401 --coadd-subset 2019 --template-type meanclip",
)
@repo_argument
@click.argument("proc_type")
@click.argument("subset")
@template_options
@click.option("--overwrite", is_flag=True, help="Drop children of the chain that somebody else added.")
def collection(repo, proc_type, subset, coadd_subset, template_type, overwrite) -> None:
    """Make or update the chain of a proc type: its RUNs, the newest first, then the inputs of the proc type.

    SUBSET is a night; for coadd it is the coadd subset.
    """
    from proc_decam_dagster.repository import open_repository, update_chain

    row, subset, coadd_subset = parts(proc_type, subset, coadd_subset)
    row.chain(subset, coadd_subset, template_type)
    repository = open_repository(repo)
    name = update_chain(repository, row.name, subset, coadd_subset, template_type, overwrite=overwrite)
    click.echo(name)
    for child in repository.butler().collections.get_info(name).children:
        click.echo(f"  {child}")


@command(
    "associate",
    example="proc-decam associate ./repo mine/warps -d deepCoadd_directWarp --collections 20190401/drp 20190402/drp",
)
@repo_argument
@click.argument("collection", metavar="COLLECTION")
@click.option("-d", "--datasets", cls=Many, split=True, required=True, metavar="DATASET …", help="Dataset types.")
@click.option(
    "--collections", cls=Many, split=True, metavar="COLLECTION …", help="Where to look.  [default: all chains]"
)
@click.option("--where", default="", help="Butler query that restricts them.")
def associate(repo, collection, datasets, collections, where) -> None:
    """Tag datasets into a collection, the first found of each data id."""
    from proc_decam_dagster.errors import SurveyError
    from proc_decam_dagster.repository import associate as tag
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.chains import processing_chains

    repository = open_repository(repo)
    searched = list(collections) or processing_chains(repository.butler())
    count = tag(repository, collection, datasets, searched, where)
    if not count:
        raise SurveyError(
            f"no {', '.join(datasets)} in {', '.join(searched)}" + (f" where {where}" if where else ""), "at least one"
        )
    click.echo(f"{collection}: {count} datasets")


@command("decertify", example="proc-decam decertify ./repo 20190401/calib/bias bias")
@repo_argument
@click.argument("collection", metavar="COLLECTION")
@click.argument("dataset")
def decertify(repo, collection, dataset) -> None:
    """Take back the certifications of a calibration, from 1970 to 2100."""
    from proc_decam_dagster.repository import decertify as take_back
    from proc_decam_dagster.repository import open_repository

    take_back(open_repository(repo), collection, dataset)
    click.echo(f"{collection}: no {dataset} is certified now")


def parts(proc_type: str, subset: str, coadd_subset: str):
    """Return the proc type's row, subset and coadd subset that three words of a command line mean."""
    from proc_decam_dagster.survey.proc_types import proc_type as row_of

    row = row_of(proc_type)
    if "subset" not in row.axes:  # a coadd: the positional subset is the coadd's own
        return row, "", coadd_subset or subset
    return row, subset, coadd_subset
