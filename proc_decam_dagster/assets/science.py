"""A night's calibrated exposures: detrended, with PSF, WCS and zero point, fakes injected, warped for coadds."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.lineage import PARTITIONS, dependencies
from proc_decam_dagster.assets.presentation import picture
from proc_decam_dagster.assets.processing import POOL, Calibrated, result, run_chain
from proc_decam_dagster.resources import ButlerRepository, Execution


@survey_asset(
    group_name="science", kinds={"lsst", "fits"}, partitions_def=PARTITIONS["calexps"],
    deps=dependencies("drp"), pool=POOL, tags={"decam/proc_type": "drp"},
)  # fmt: skip
def calexps(
    context: dg.AssetExecutionContext, config: Calibrated, repository: ButlerRepository, execution: Execution
) -> dg.MaterializeResult:
    """Calibrated exposures of a night (`{night}/drp`), their source tables, and their warps."""
    from proc_decam_dagster.report import visit_figures, visit_picture

    repo, night = repository.open(), context.partition_key
    report = run_chain(context, repo, execution, "drp", config, subset=night)
    return result(
        repo,
        report,
        picture=picture(visit_picture(repo, night), f"calexps {night}"),
        **visit_figures(repo, night),
    )


ASSETS = [calexps]
