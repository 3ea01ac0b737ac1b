"""What a survey team looks at: completeness, figures over time, pictures. Reads products; changes nothing."""

from proc_decam_dagster.report.figures import (
    calibration_figures,
    coadd_figures,
    dia_sources,
    difference_figures,
    visit_figures,
    visit_summary,
)
from proc_decam_dagster.report.pictures import calibration_picture, coadd_picture, difference_picture, visit_picture
from proc_decam_dagster.report.queries import (
    certified_detectors,
    missing_calexps,
    missing_differences,
    raw_detectors,
    registered_exposures,
)

__all__ = [
    "calibration_figures", "calibration_picture", "certified_detectors", "coadd_figures", "coadd_picture",
    "dia_sources", "difference_figures", "difference_picture", "missing_calexps", "missing_differences",
    "raw_detectors", "registered_exposures", "visit_figures", "visit_picture", "visit_summary",
]  # fmt: skip
