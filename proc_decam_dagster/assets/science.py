"""A night's calibrated exposures: detrended, with PSF, WCS and zero point, fakes injected, warped for coadds."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.conditions import NIGHT_READY
from proc_decam_dagster.assets.forms import Calibrated, form_of
from proc_decam_dagster.assets.lineage import PARTITIONS, dependencies
from proc_decam_dagster.assets.presentation import described, picture
from proc_decam_dagster.assets.processing import POOL, result, run_chain
from proc_decam_dagster.resources import ButlerRepository, Execution

CalexpsForm = form_of("drp", Calibrated)


@survey_asset(
    group_name="science", kinds={"lsst", "fits"}, partitions_def=PARTITIONS["calexps"], pool=POOL,
    deps=dependencies("drp"), automation_condition=NIGHT_READY, tags={"decam/proc_type": "drp"},
    output_required=False,
    description=described(
        "Calibrated exposures of a night with PSF, WCS and zero point, their sources, copies with fakes injected, and "
        "warps for coadds.", "drp", "calexps", "seeing_arcsec", "depth_5sigma", "zero_point",
        "zero_point_scatter", "astrometric_rms_mas", "sky_e",
    ),
)  # fmt: skip
def calexps(
    context: dg.AssetExecutionContext, config: CalexpsForm, repository: ButlerRepository, execution: Execution
) -> dg.MaterializeResult:
    from proc_decam_dagster.report import visit_figures, visit_pictures

    repo, night = repository.open(), context.partition_key
    report = run_chain(context, repo, execution, "drp", config, subset=night)
    return result(
        context,
        repo,
        config,
        report,
        **{name: picture(png, f"{name} {night}") for name, png in visit_pictures(repo, night)},
        **visit_figures(repo, night),
    )


ASSETS = [calexps]
