"""Checks of a night's differences: all there, few false sources, fakes recovered."""

import dagster as dg

from proc_decam_dagster.assets.presentation import markdown_table
from proc_decam_dagster.checks.check import ERROR, WARN, complete, graded, parts_of, survey_check
from proc_decam_dagster.resources import ButlerRepository, Limits
from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES


def _diffs_complete(template_type: str) -> dg.AssetChecksDefinition:
    @survey_check("diffs", template_type=template_type)
    def diffs_complete(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
        """Every calibrated exposure of the night that is not excluded has a difference image."""
        from proc_decam_dagster.report import missing_differences

        parts = parts_of(context, "diffs", template_type)
        expected, missing = missing_differences(repository.open(), *parts.values())
        frames = [f"{visit}/{detector}" for visit, detector in missing]
        return complete(expected, frames, "calibrated exposures (visit/CCD) are differenced", WARN)

    return diffs_complete


def _false_sources(template_type: str) -> dg.AssetChecksDefinition:
    @survey_check("diffs", template_type=template_type)
    def false_sources(
        context: dg.AssetCheckExecutionContext, repository: ButlerRepository, limits: Limits
    ) -> dg.AssetCheckResult:
        """Few false sources in a difference image, estimated from its negative ones."""
        from proc_decam_dagster.report import difference_figures

        figures = difference_figures(repository.open(), **parts_of(context, "diffs", template_type))
        return graded(
            "false_per_ccd", figures["false_per_ccd"], limits.false_per_ccd, limits,
            candidates_per_ccd=figures["candidates_per_ccd"],
        )  # fmt: skip

    return false_sources


def _fakes_recovered(template_type: str) -> dg.AssetChecksDefinition:
    @survey_check("diffs", template_type=template_type)
    def fakes_recovered(
        context: dg.AssetCheckExecutionContext, repository: ButlerRepository, limits: Limits
    ) -> dg.AssetCheckResult:
        """Fakes a magnitude brighter than the night's depth are recovered."""
        from proc_decam_dagster.report import bright_fakes, completeness, fakes_recovery

        repo, parts = repository.open(), parts_of(context, "diffs", template_type)
        recovery = fakes_recovery(repo, **parts)
        if not len(recovery):
            return dg.AssetCheckResult(passed=True, description="no injected images were differenced: nothing to judge")
        limit, injected, recovered = bright_fakes(repo, parts["subset"], recovery)
        bins = [(f"{mag:.2f}", total, good) for mag, total, good in completeness(recovery)]
        fraction = recovered / injected if injected else float("nan")
        return dg.AssetCheckResult(
            passed=bool(injected) and fraction >= limits.fakes_recovered,
            severity=ERROR if injected and fraction < limits.fakes_recovered / limits.severe else WARN,
            description=f"{recovered} of {injected} fakes brighter than {limit:.2f} mag, expected "
            f"{limits.fakes_recovered:.0%}",
            metadata={
                "injected": injected, "recovered": recovered, "brighter_than": round(limit, 2),
                "by_magnitude": markdown_table(("magnitude", "injected", "recovered"), bins),
            },
        )  # fmt: skip

    return fakes_recovered


CHECKS = [
    make(template_type)
    for template_type in TEMPLATE_TYPES
    for make in (_diffs_complete, _false_sources, _fakes_recovered)
]
