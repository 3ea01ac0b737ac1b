"""Fitting tracts to the fields of a survey: connected fields share a tract, and every field lies inside one."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from proc_decam_dagster.camera.distortion import camera_outline
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.pixels.tract import Tract

LARGEST_RADIUS_DEG = 5.0
"""Groups of fields that reach farther than this from their centre are divided: a tangent plane stretches towards its
edges, by 0.8 % there."""

CELL_DEG = 0.01
"""Fields closer than this are one for the purpose of grouping."""


def vectors(ra, dec) -> np.ndarray:
    """Return unit vectors, (n, 3), of positions (deg)."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def field_outline(field) -> np.ndarray:
    """Return the points that bound a field, (n, 2): RA, Dec.

    Parameters
    ----------
    field : array-like
        A pointing (RA, Dec), for the outline of all detectors; a circle (RA, Dec, radius); or an outline, (n, 2).
    """
    values = np.asarray(field, float)
    if values.shape == (2,):
        return camera_outline(*values)
    if values.shape == (3,):
        ra, dec, radius = values
        angles = np.radians(np.arange(0, 360, 5))
        # A polygon around the circle, so that no arc of it stands out.
        r = math.radians(radius) / math.cos(math.radians(2.5))
        sine = np.sin(math.radians(dec)) * np.cos(r) + np.cos(math.radians(dec)) * np.sin(r) * np.cos(angles)
        east = np.sin(angles) * np.sin(r) * np.cos(math.radians(dec))
        north = np.cos(r) - np.sin(math.radians(dec)) * sine
        return np.stack([(ra + np.degrees(np.arctan2(east, north))) % 360, np.degrees(np.arcsin(sine))], axis=1)
    if values.ndim == 2 and values.shape[1] == 2 and len(values) > 2:
        return values
    raise ValueError(f"field of shape {values.shape}: expected (RA, Dec), (RA, Dec, radius) or corners (n, 2)")


def _center(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the unit vector amid some, and the largest angle (deg) from it."""
    center = points.mean(0)
    if np.linalg.norm(center) < 1e-3:
        center = points[0]
    center = center / np.linalg.norm(center)
    return center, float(np.degrees(np.arccos(np.clip((points @ center).min(), -1, 1))))


def _connected(centers: np.ndarray, radii: np.ndarray) -> list[np.ndarray]:
    """Return the groups, as indices, of circles that touch each other directly or through others."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    tree = cKDTree(centers)
    pairs = tree.query_pairs(2 * math.sin(math.radians(min(90.0, radii.max()))), output_type="ndarray")
    chord = np.linalg.norm(centers[pairs[:, 0]] - centers[pairs[:, 1]], axis=1)
    pairs = pairs[chord <= 2 * np.sin(np.radians(np.minimum(180.0, radii[pairs].sum(1)) / 2))]
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(centers),) * 2)
    _, labels = connected_components(links, directed=False)
    return [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]


def _divide(group: np.ndarray, centers: np.ndarray, radii: np.ndarray) -> list[np.ndarray]:
    """Return a group in parts none of which is too large for one tangent plane, if its fields themselves are not."""
    middle, radius = _center(centers[group])
    if len(group) < 2 or radius + radii[group].max() <= LARGEST_RADIUS_DEG:
        return [group]
    spread = centers[group] - middle
    along = spread @ np.linalg.svd(spread, full_matrices=False)[2][0]
    if np.ptp(along) < 1e-9:
        return [group]
    half = along > (along.max() + along.min()) / 2
    return _divide(group[~half], centers, radii) + _divide(group[half], centers, radii)


def fit_tracts(
    fields: Iterable, *, pixel_scale: float, patch_inner: int, border: int, margin_arcsec: float
) -> list[dict[str, Any]]:
    """Return the tracts of a discrete sky map: tangent point, number of patches, pixel of the tangent point.

    Parameters
    ----------
    fields : iterable
        Fields as `field_outline` takes them.
    pixel_scale, patch_inner, border
        As in `proc_decam_dagster.pixels.skymap.Tract`.
    margin_arcsec : `float`
        Room kept around the fields: telescopes do not point exactly where they say.

    Raises
    ------
    SurveyError
        Raised if there is no field.
    """
    values = sorted((np.asarray(field, float) for field in fields), key=lambda field: tuple(field.ravel()))
    unique = {tuple(np.ravel(np.round(field / CELL_DEG))): field for field in values}
    if not unique:
        raise SurveyError("no fields to fit a sky map to", "at least one science exposure with RA and Dec")
    # Fields in one cell differ by up to the cell's diagonal: the margin grows by as much.
    margin = margin_arcsec + CELL_DEG * 3600 * 1.5
    outlines = [field_outline(field) for _, field in sorted(unique.items())]
    points = [vectors(*outline.T) for outline in outlines]
    centers, radii = (np.array(each) for each in zip(*map(_center, points)))
    groups = [part for group in _connected(centers, radii) for part in _divide(group, centers, radii)]
    tracts = [_fit(np.concatenate([points[i] for i in group]), pixel_scale, patch_inner, margin) for group in groups]
    return sorted(tracts, key=lambda tract: (tract["ra"], tract["dec"]))


def _fit(points: np.ndarray, pixel_scale: float, patch_inner: int, margin_arcsec: float) -> dict[str, Any]:
    """Return the smallest whole number of patches, centred on the points, that holds them all."""
    ra, dec = np.degrees(np.arctan2(points[:, 1], points[:, 0])), np.degrees(np.arcsin(np.clip(points[:, 2], -1, 1)))
    middle, _ = _center(points)
    ra0, dec0 = math.degrees(math.atan2(middle[1], middle[0])) % 360, math.degrees(math.asin(middle[2]))
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
