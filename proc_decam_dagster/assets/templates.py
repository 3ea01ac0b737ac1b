"""Templates of a coadd subset, one pair of assets a template type: which nights went in, and the coadds."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.forms import Processing, form_of
from proc_decam_dagster.assets.lineage import PARTITIONS, dependencies, dependency
from proc_decam_dagster.assets.presentation import data_version, described, markdown_table, picture
from proc_decam_dagster.assets.processing import POOL, result, run_chain
from proc_decam_dagster.partitions import COADD_SUBSET, NIGHT
from proc_decam_dagster.resources import ButlerRepository, Execution
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES

STATISTICS = {"mean": "mean", "median": "median", "meanclip": "clipped mean", "min": "minimum"}
"""What a template type makes of the warps of a pixel."""

CoaddsForm = form_of("coadd", Processing)


def group(template_type: str) -> str:
    """Return the group of a template type's assets."""
    return f"template_{template_type}"


def _coadd_inputs(template_type: str) -> dg.AssetsDefinition:
    @survey_asset(
        name="coadd_inputs", key_prefix=template_type, group_name=group(template_type), kinds={"butler"},
        partitions_def=PARTITIONS["coadd_inputs"],
        deps=[dependency("calexps", "coadd_inputs")], pool=POOL, tags={"decam/template_type": template_type},
        description=f"Which nights go into the template: a night's warps and tables are tagged into "
        f"{{coadd_subset}}/{template_type}/coadd/inputs.",
    )  # fmt: skip
    def coadd_inputs(context: dg.AssetExecutionContext, repository: ButlerRepository) -> dg.MaterializeResult:
        from proc_decam_dagster.repository import associate_coadd_inputs, coadd_nights
        from proc_decam_dagster.repository.chains import runs_of

        key = context.partition_key.keys_by_dimension
        repo, subset, drp = repository.open(), key[COADD_SUBSET], PROC_TYPES["drp"]
        # The TAGGED collection is the truth: it is rebuilt from all the nights that belong, this one among them.
        counts = associate_coadd_inputs(repo, [key[NIGHT]], subset, template_type, add=True)
        nights = coadd_nights(repo, subset, template_type)
        return dg.MaterializeResult(
            metadata={
                "nights": ", ".join(nights),
                "datasets": sum(counts.values()),
                "by_dataset_type": markdown_table(("dataset type", "datasets"), counts.items()),
            },
            data_version=data_version(run for n in nights for run in runs_of(repo.butler(), drp.chain(n))),
        )

    return coadd_inputs


def _coadds(template_type: str) -> dg.AssetsDefinition:
    @survey_asset(
        name="coadds", key_prefix=template_type, group_name=group(template_type), kinds={"lsst", "fits"},
        partitions_def=PARTITIONS["coadds"], deps=dependencies("coadd", template_type), pool=POOL,
        tags={"decam/proc_type": "coadd", "decam/template_type": template_type}, output_required=False,
        description=described(
            f"Templates of a coadd subset: coadds by the {STATISTICS[template_type]} of the warps of its nights.",
            "coadd", "coadds", "median_inputs", "median_noise_njy", template_type=template_type,
        ),
    )  # fmt: skip
    def coadds(
        context: dg.AssetExecutionContext, config: CoaddsForm, repository: ButlerRepository, execution: Execution
    ) -> dg.MaterializeResult:
        from proc_decam_dagster.report import coadd_figures, coadd_pictures, warps_by_night

        repo, subset = repository.open(), context.partition_key
        parts = {"coadd_subset": subset, "template_type": template_type}
        report = run_chain(context, repo, execution, "coadd", config, **parts)
        return result(
            context,
            repo,
            config,
            report,
            nights=markdown_table(("night", "warps", "visits"), warps_by_night(repo, **parts)),
            **{name: picture(png, f"{template_type} {name} {subset}") for name, png in coadd_pictures(repo, **parts)},
            **coadd_figures(repo, **parts),
        )

    return coadds


ASSETS = [make(template_type) for template_type in TEMPLATE_TYPES for make in (_coadd_inputs, _coadds)]
