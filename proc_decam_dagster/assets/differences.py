"""Difference images of a night against a coadd subset's templates, one asset a template type."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.forms import Differencing, form_of
from proc_decam_dagster.assets.lineage import PARTITIONS, dependencies
from proc_decam_dagster.assets.presentation import described, picture, report_metadata
from proc_decam_dagster.assets.processing import POOL, result, run_chain
from proc_decam_dagster.assets.templates import group
from proc_decam_dagster.partitions import COADD_SUBSET, NIGHT
from proc_decam_dagster.resources import ButlerRepository, Execution
from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES

DiffsForm = form_of("diff_drp", Differencing)


def _diffs(template_type: str) -> dg.AssetsDefinition:
    @survey_asset(
        name="diffs", key_prefix=template_type, group_name=group(template_type), kinds={"lsst", "fits"},
        partitions_def=PARTITIONS["diffs"], deps=dependencies("diff_drp", template_type), pool=POOL,
        tags={"decam/proc_type": "diff_drp", "decam/template_type": template_type}, output_required=False,
        description=described(
            "Difference images of a night against a coadd subset's templates, their sources and objects, and forced "
            "light curves.", "diff_drp", "differences", "dia_sources", "dia_sources_per_ccd", "candidates_per_ccd",
            "false_per_ccd", "dia_objects", template_type=template_type,
        ),
    )  # fmt: skip
    def diffs(
        context: dg.AssetExecutionContext, config: DiffsForm, repository: ButlerRepository, execution: Execution
    ) -> dg.MaterializeResult:
        from proc_decam_dagster.report import difference_figures, difference_pictures

        key = context.partition_key.keys_by_dimension
        repo = repository.open()
        parts = {"subset": key[NIGHT], "coadd_subset": key[COADD_SUBSET], "template_type": template_type}
        kinds = ("clean", "injected") if config.science == "both" else (config.science,)
        reports = [run_chain(context, repo, execution, "diff_drp", config, **parts, science=k) for k in kinds]
        metadata = {f"{k}/{name}": v for k, r in zip(kinds[1:], reports[1:]) for name, v in report_metadata(r).items()}
        return result(
            context,
            repo,
            config,
            reports[0],
            more=metadata,
            **{name: picture(png, name) for name, png in difference_pictures(repo, **parts)},
            **difference_figures(repo, **parts),
        )

    return diffs


ASSETS = [_diffs(template_type) for template_type in TEMPLATE_TYPES]
