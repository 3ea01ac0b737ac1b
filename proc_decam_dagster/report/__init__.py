"""What a survey team looks at: completeness, figures over time, pictures. Reads products; changes nothing."""

from importlib import import_module

_HOMES = {
    "calibration_figures": "figures",
    "coadd_figures": "figures",
    "dia_sources": "figures",
    "difference_figures": "figures",
    "gigabytes_of": "figures",
    "refused_detectors": "figures",
    "visit_figures": "figures",
    "visit_summary": "figures",
    "warps_by_night": "figures",
    "compare": "comparison",
    "two_newest": "comparison",
    "earlier_masters": "levels",
    "lacking_masters": "levels",
    "master_changes": "levels",
    "calibration_picture": "pictures",
    "calibration_pictures": "pictures",
    "visit_picture": "pictures",
    "visit_pictures": "pictures",
    "coadd_picture": "coadd_pictures",
    "coadd_pictures": "coadd_pictures",
    "difference_picture": "difference_pictures",
    "difference_pictures": "difference_pictures",
    "make_pages": "pages.making",
    "bright_fakes": "recovery",
    "completeness": "recovery",
    "completeness_picture": "recovery",
    "fakes_recovery": "recovery",
    "missing_calexps": "queries",
    "missing_differences": "queries",
    "unprocessed_frames": "queries",
    "coverage_map": "sky",
    "sky_map": "sky",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    # Imported when used: a map of the sky needs no Butler.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Kept, in place of the module where that has the same name: an import has put it here.
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
