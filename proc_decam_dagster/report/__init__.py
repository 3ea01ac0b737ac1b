"""What a survey team looks at: completeness, figures over time, pictures. Reads products; changes nothing."""

from importlib import import_module

_HOMES = {
    "calibration_figures": "figures",
    "coadd_figures": "figures",
    "dia_sources": "figures",
    "difference_figures": "figures",
    "visit_figures": "figures",
    "visit_summary": "figures",
    "compare": "comparison",
    "two_newest": "comparison",
    "calibration_picture": "pictures",
    "coadd_picture": "pictures",
    "difference_picture": "pictures",
    "visit_picture": "pictures",
    "certified_detectors": "queries",
    "missing_calexps": "queries",
    "missing_differences": "queries",
    "raw_detectors": "queries",
    "registered_exposures": "queries",
    "coverage_map": "sky",
    "sky_map": "sky",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    # Imported when used: a map of the sky needs no Butler.
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
