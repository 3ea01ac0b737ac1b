"""Checks of a night's calibrated exposures: all there, within the skymap, and of the quality of a good night."""

import dagster as dg

from proc_decam_dagster.assets.presentation import listed, markdown_table
from proc_decam_dagster.checks.check import SHOWN, WARN, complete, graded, survey_check
from proc_decam_dagster.resources import ButlerRepository, Limits, Survey

FIGURES = {
    "astrometric_scatter": ("astrometric_rms_mas", "astrometry_mas", "The scatter of the astrometric solutions"),
    "photometric_scatter": ("zero_point_scatter", "photometry_mag", "The scatter of the zero points' stars"),
    "psf_size": ("seeing_arcsec", "seeing_arcsec", "The size of the PSF"),
}
"""Check → figure of the night (median over visits and detectors), limit, and in words what it is."""


@survey_check("calexps")
def calexps_complete(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
    """Every science raw of the night that is not excluded has a calibrated exposure."""
    from proc_decam_dagster.report import missing_calexps

    expected, missing = missing_calexps(repository.open(), context.partition_key)
    frames = [f"{exposure}/{detector}" for exposure, detector in missing]
    return complete(expected, frames, "frames (exposure/CCD) are calibrated", WARN)


@survey_check("calexps")
def exposures_in_skymap(
    context: dg.AssetCheckExecutionContext, survey: Survey, repository: ButlerRepository
) -> dg.AssetCheckResult:
    """Every science exposure of the night lies in the survey's skymap."""
    from proc_decam_dagster.repository import exposures_outside_skymap
    from proc_decam_dagster.survey import exposures as table_io

    table = table_io.rows_of_nights(table_io.read_exposures(survey.exposures_file), [context.partition_key])
    outside = exposures_outside_skymap(repository.open(), table)
    return dg.AssetCheckResult(
        passed=not outside, severity=WARN,
        description=f"{len(outside)} exposures lie outside of it" if outside else "all lie in it",
        metadata={"outside": listed(outside[:SHOWN])},
    )  # fmt: skip


@survey_check("calexps")
def detectors_accepted(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
    """The visit summaries refuse no detector of the night: stars not trailed, zero points alike, pixels usable."""
    from proc_decam_dagster.report import refused_detectors

    refused = refused_detectors(repository.open(), context.partition_key)
    return dg.AssetCheckResult(
        passed=not refused,
        severity=WARN,
        description=f"{len(refused)} detectors of visits are refused" if refused else "none is refused",
        metadata={"refused": markdown_table(("visit", "detector", "because"), refused[:SHOWN])},
    )


def _figure(name: str) -> dg.AssetChecksDefinition:
    figure, limit, words = FIGURES[name]

    @survey_check("calexps", name=name, description=f"{words} is that of a good night.")
    def within(
        context: dg.AssetCheckExecutionContext, repository: ButlerRepository, limits: Limits
    ) -> dg.AssetCheckResult:
        from proc_decam_dagster.report import visit_figures

        value = visit_figures(repository.open(), context.partition_key)[figure]
        return graded(figure, value, getattr(limits, limit), limits)

    return within


CHECKS = [calexps_complete, detectors_accepted, exposures_in_skymap, *map(_figure, FIGURES)]
