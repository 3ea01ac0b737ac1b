"""Master calibrations of a night: bias and flat, certified for the detectors that succeeded."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.lineage import ASSET_OF_PROC_TYPE, PARTITIONS, dependencies
from proc_decam_dagster.assets.presentation import picture
from proc_decam_dagster.assets.processing import POOL, Calibrated, Calibration, result, run_chain
from proc_decam_dagster.resources import ButlerRepository, Execution

GROUP = "calibrations"


def _calibration(proc_type: str, options: type[Calibration], description: str) -> dg.AssetsDefinition:
    """Return the asset of a night's master calibration, with the options that its launch dialog offers."""
    name = ASSET_OF_PROC_TYPE[proc_type]

    @survey_asset(
        name=name, group_name=GROUP, kinds={"lsst", "fits"}, partitions_def=PARTITIONS[name],
        deps=dependencies(proc_type), pool=POOL, description=description,
        tags={"decam/proc_type": proc_type},
    )  # fmt: skip
    def calibration(
        context: dg.AssetExecutionContext, config: options, repository: ButlerRepository, execution: Execution
    ) -> dg.MaterializeResult:
        from proc_decam_dagster.report import calibration_figures, calibration_picture

        repo, night = repository.open(), context.partition_key
        report = run_chain(context, repo, execution, proc_type, config, subset=night)
        return result(
            repo,
            report,
            picture=picture(calibration_picture(repo, night, proc_type), f"{proc_type} {night}"),
            **calibration_figures(repo, night, proc_type),
        )

    return calibration


ASSETS = [
    _calibration("bias", Calibration, "Master bias of each detector, certified into `{night}/calib/bias`."),
    _calibration(
        "flat", Calibrated, "Master dome flat of each band and detector, certified into `{night}/calib/flat`."
    ),
]
