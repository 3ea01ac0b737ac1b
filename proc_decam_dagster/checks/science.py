"""Checks of a night's calibrated exposures: all there, and of the quality of a good night."""

import dagster as dg

from proc_decam_dagster.checks.check import WARN, complete, graded, survey_check
from proc_decam_dagster.resources import ButlerRepository, Limits

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
    return complete(expected, [list(m) for m in missing], "calibrated", WARN)


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


CHECKS = [calexps_complete, *map(_figure, FIGURES)]
