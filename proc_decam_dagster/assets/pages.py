"""The survey's static pages, which people read without Dagster: one a night, and one of all."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.lineage import asset_key
from proc_decam_dagster.assets.presentation import measured
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.resources import ButlerRepository

GROUP = "pages"


class PageConfig(dg.Config):
    """Where pages are put."""

    folder: str = Field(default="", description="Folder of the pages; the repository's own if empty")


# Not of `diffs`, of which a night has one a subset and template type: a page shows what there is when it is made.
@survey_asset(
    group_name=GROUP, kinds={"html"}, partitions_def=NIGHTS,
    deps=[asset_key(name) for name in ("raws", "bias", "flat", "calexps")],
)  # fmt: skip
def night_page(
    context: dg.AssetExecutionContext, config: PageConfig, repository: ButlerRepository
) -> dg.MaterializeResult:
    """A night's static page: its stages and CCDs, failures with cause and next action, figures, pictures."""
    from proc_decam_dagster.report import make_pages

    repo, night = repository.open(), context.partition_key
    made = make_pages(repo, _folder(config), [night])
    # Of a chain of differences without its last part: a page has no room for longer names.
    figures = {
        f"{stage.removesuffix('/diff_drp')}/{name}": value
        for stage, found in made.figures[night].items()
        for name, value in found.items()
    }
    return dg.MaterializeResult(metadata=_shown(made.nights[night]) | measured(figures))


@survey_asset(group_name=GROUP, kinds={"html"}, deps=[night_page])
def survey_page(
    context: dg.AssetExecutionContext, config: PageConfig, repository: ButlerRepository
) -> dg.MaterializeResult:
    """The survey's static page: nights × stages × CCDs by state, causes and next actions, figures over time.

    Makes those nights' pages too that have changed since, and reports them as materialisations.
    """
    from proc_decam_dagster.report import make_pages

    def progress(done: int, total: int, night: str) -> None:
        context.log.info(f"{done} of {total} nights' pages made {night}".rstrip())

    made = make_pages(repository.open(), _folder(config), progress=progress)
    for night, page in made.nights.items():
        context.log_event(dg.AssetMaterialization(night_page.key, partition=night, metadata=_shown(page)))
    return dg.MaterializeResult(
        metadata=_shown(made.index) | {"nights": made.known, "nights_made_anew": ", ".join(made.nights) or "none"}
    )


def _folder(config: PageConfig) -> Path | None:
    return Path(config.folder).expanduser() if config.folder else None


def _shown(page: Path) -> dict[str, object]:
    # No link: a browser follows none from a server's page to a file.
    return {"file": dg.MetadataValue.path(str(page))}


ASSETS = [night_page, survey_page]
