"""Fields of the camera on the sky: their outlines, and the connected groups of them that one tangent plane can hold."""

import math
from collections.abc import Iterable

import numpy as np

from proc_decam_dagster.camera.distortion import camera_outline
from proc_decam_dagster.errors import SurveyError

LARGEST_RADIUS_DEG = 5.0
"""Groups of fields that reach farther than this from their centre are divided: a tangent plane stretches towards its
edges, by 0.8 % there."""

CELL_DEG = 0.01
"""Fields closer than this are one for the purpose of grouping."""

CELL_MARGIN_ARCSEC = CELL_DEG * 3600 * 1.5
"""Room to keep around a group, because fields in one cell differ by up to the cell's diagonal."""


def vectors(ra, dec) -> np.ndarray:
    """Return unit vectors, (n, 3), of positions (deg)."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def positions(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return RA and Dec (deg) of unit vectors, (n, 3)."""
    ra = np.degrees(np.arctan2(points[..., 1], points[..., 0])) % 360
    return ra, np.degrees(np.arcsin(np.clip(points[..., 2], -1, 1)))


def bounding_circle(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the unit vector amid some, and the largest angle (deg) from it."""
    center = points.mean(0)
    if np.linalg.norm(center) < 1e-3:
        center = points[0]
    center = center / np.linalg.norm(center)
    return center, float(np.degrees(np.arccos(np.clip((points @ center).min(), -1, 1))))


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


def group_fields(fields: Iterable) -> list[np.ndarray]:
    """Return the outlines of each group of fields that touch each other, directly or through others.

    A group that reaches farther than `LARGEST_RADIUS_DEG` is divided; each field is whole in one group.

    Parameters
    ----------
    fields : iterable
        Fields as `field_outline` takes them.

    Returns
    -------
    groups : `list` [`numpy.ndarray`, (n, 3)]
        Unit vectors of the outlines' points; keep `CELL_MARGIN_ARCSEC` around them.

    Raises
    ------
    SurveyError
        If there is no field.
    """
    values = sorted((np.asarray(field, float) for field in fields), key=lambda field: tuple(field.ravel()))
    unique = {tuple(np.ravel(np.round(field / CELL_DEG))): field for field in values}
    if not unique:
        raise SurveyError("no fields to fit a sky map to", "at least one science exposure with RA and Dec")
    points = [vectors(*field_outline(field).T) for _, field in sorted(unique.items())]
    centers, radii = (np.array(each) for each in zip(*map(bounding_circle, points)))
    groups = [part for group in _connected(centers, radii) for part in _divide(group, centers, radii)]
    return [np.concatenate([points[i] for i in group]) for group in groups]


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
    middle, radius = bounding_circle(centers[group])
    if len(group) < 2 or radius + radii[group].max() <= LARGEST_RADIUS_DEG:
        return [group]
    spread = centers[group] - middle
    along = spread @ np.linalg.svd(spread, full_matrices=False)[2][0]
    if np.ptp(along) < 1e-9:
        return [group]
    half = along > (along.max() + along.min()) / 2
    return _divide(group[~half], centers, radii) + _divide(group[half], centers, radii)
