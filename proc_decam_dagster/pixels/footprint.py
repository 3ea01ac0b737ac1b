"""Fitting tracts to the fields of a survey: connected fields share a tract, and every field lies inside one."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from proc_decam_dagster.camera.fields import CELL_MARGIN_ARCSEC, bounding_circle, group_fields, positions
from proc_decam_dagster.pixels.tract import Tract


def fit_tracts(
    fields: Iterable, *, pixel_scale: float, patch_inner: int, border: int, margin_arcsec: float
) -> list[dict[str, Any]]:
    """Return the tracts of a discrete sky map: tangent point, number of patches, pixel of the tangent point.

    Parameters
    ----------
    fields : iterable
        Fields as `proc_decam_dagster.camera.fields.field_outline` takes them.
    pixel_scale, patch_inner, border
        As in `proc_decam_dagster.pixels.skymap.Tract`.
    margin_arcsec : `float`
        Room kept around the fields: telescopes do not point exactly where they say.

    Raises
    ------
    SurveyError
        Raised if there is no field.
    """
    margin = margin_arcsec + CELL_MARGIN_ARCSEC
    tracts = [_fit(points, pixel_scale, patch_inner, margin) for points in group_fields(fields)]
    return sorted(tracts, key=lambda tract: (tract["ra"], tract["dec"]))


def _fit(points: np.ndarray, pixel_scale: float, patch_inner: int, margin_arcsec: float) -> dict[str, Any]:
    """Return the smallest whole number of patches, centred on the points, that holds them all."""
    ra, dec = positions(points)
    ra0, dec0 = (float(each) for each in positions(bounding_circle(points)[0]))
    for _ in range(3):  # the middle of the box that holds the points in their own plane
        plane = Tract(0, ra0, dec0, 1, 1, 1, 0, pixel_scale, (0.0, 0.0))
        x, y = plane.sky_to_pixel(ra, dec)
        center = plane.pixel_to_sky((x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
        ra0, dec0 = (round(float(each), 5) for each in center)
    x, y = Tract(0, ra0, dec0, 1, 1, 1, 0, pixel_scale, (0.0, 0.0)).sky_to_pixel(ra, dec)
    half = np.array([np.abs(x).max(), np.abs(y).max()]) + margin_arcsec / pixel_scale
    nx, ny = (int(number) for number in np.ceil(2 * half / patch_inner))
    # The pixel grid is symmetric around the tangent point, which lies on a corner of pixels.
    origin = [nx * patch_inner / 2 - 0.5, ny * patch_inner / 2 - 0.5]
    return {"ra": ra0, "dec": dec0, "nx": nx, "ny": ny, "origin": origin}
