"""Checks of a coadd subset's templates: deep enough to subtract."""

import dagster as dg

from proc_decam_dagster.checks.check import ERROR, WARN, survey_check
from proc_decam_dagster.resources import ButlerRepository, Limits
from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES


def _template_depth(template_type: str) -> dg.AssetChecksDefinition:
    @survey_check("coadds", template_type=template_type)
    def template_depth(
        context: dg.AssetCheckExecutionContext, repository: ButlerRepository, limits: Limits
    ) -> dg.AssetCheckResult:
        """Enough visits went into the template."""
        from proc_decam_dagster.report import coadd_figures

        figures = coadd_figures(repository.open(), coadd_subset=context.partition_key, template_type=template_type)
        inputs = figures["median_inputs"]
        return dg.AssetCheckResult(
            passed=inputs >= limits.template_inputs,
            severity=WARN if figures["coadds"] else ERROR,
            description=f"{inputs:g} visits in {figures['coadds']} coadds, expected {limits.template_inputs:g}",
            metadata={"median_inputs": inputs, "minimum": limits.template_inputs, "coadds": figures["coadds"]},
        )

    return template_depth


CHECKS = [_template_depth(template_type) for template_type in TEMPLATE_TYPES]
