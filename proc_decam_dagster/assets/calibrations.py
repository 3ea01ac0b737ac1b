"""Master calibrations of a night: bias and flat, certified for the detectors that succeeded."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.conditions import NIGHT_READY
from proc_decam_dagster.assets.forms import Calibrated, Calibration, form_of
from proc_decam_dagster.assets.lineage import ASSET_OF_PROC_TYPE, PARTITIONS, dependencies
from proc_decam_dagster.assets.presentation import described, picture
from proc_decam_dagster.assets.processing import POOL, result, run_chain
from proc_decam_dagster.resources import ButlerRepository, Execution

GROUP = "calibrations"


def _calibration(proc_type: str, form: type[Calibration], what: str, level: str = "") -> dg.AssetsDefinition:
    """Return the asset of a night's master calibration, with the form that its launch dialog shows."""
    name = ASSET_OF_PROC_TYPE[proc_type]
    description = described(what, proc_type, "certified", "median_level", "median_scatter", level=level)
    form = form_of(proc_type, form)

    @survey_asset(
        name=name, group_name=GROUP, kinds={"lsst", "fits"}, partitions_def=PARTITIONS[name],
        deps=dependencies(proc_type), pool=POOL, description=description, automation_condition=NIGHT_READY,
        tags={"decam/proc_type": proc_type}, output_required=False,
    )  # fmt: skip
    def calibration(
        context: dg.AssetExecutionContext, config: form, repository: ButlerRepository, execution: Execution
    ) -> dg.MaterializeResult:
        from proc_decam_dagster.report import calibration_figures, calibration_pictures

        repo, night = repository.open(), context.partition_key
        report = run_chain(context, repo, execution, proc_type, config, subset=night)
        return result(
            context,
            repo,
            config,
            report,
            **{name: picture(png, f"{name} {night}") for name, png in calibration_pictures(repo, night, proc_type)},
            **calibration_figures(repo, night, proc_type),
        )

    return calibration


ASSETS = [
    _calibration(
        "bias", Calibration, "Master bias of each detector of a night, certified into {night}/calib/bias.", "ADU"
    ),
    _calibration(
        "flat", Calibrated, "Master dome flat of each band and detector of a night, certified into {night}/calib/flat."
    ),
]
