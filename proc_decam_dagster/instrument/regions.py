"""Sky regions for the Butler's spatial joins: padded outlines of detectors, visits, tracts and patches."""

from functools import cache

import numpy as np
from lsst.sphgeom import ConvexPolygon, UnitVector3d

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import detector_outline

POINTING_PADDING_ARCSEC = 20.0
"""How far telescope pointings are off: DECam's headers are good to about 10 arcsec."""


def polygon(corners_deg: np.ndarray, padding_arcsec: float = 0.0) -> ConvexPolygon:
    """Return the convex polygon of corners on the sky.

    Parameters
    ----------
    corners_deg : array-like, (n, 2)
        RA and Dec (deg), in order around the polygon, either way.
    padding_arcsec : `float`
        How far outwards the sides are moved (exact where they meet at right angles).
    """
    vectors = unit_vectors(corners_deg)
    if padding_arcsec:
        vectors = _padded(vectors, np.radians(padding_arcsec / 3600))
    return hull(vectors)


def visit_polygons(ra_deg: float, dec_deg: float) -> tuple[ConvexPolygon, dict[int, ConvexPolygon]]:
    """Return the hull of the padded outlines of all detectors at a pointing, and those outlines."""
    padding = np.radians(POINTING_PADDING_ARCSEC / 3600)
    vectors = {d: _padded(corners, padding) for d, corners in camera_vectors(ra_deg, dec_deg).items()}
    return hull(np.concatenate(list(vectors.values()))), {d: hull(v) for d, v in vectors.items()}


def camera_vectors(ra_deg: float, dec_deg: float) -> dict[int, np.ndarray]:
    """Return the corners of every detector at a pointing, (4, 3) unit vectors: those of `detector_outline`."""
    ra, dec = np.radians([ra_deg, dec_deg])
    around_y = np.array([[np.cos(dec), 0, -np.sin(dec)], [0, 1, 0], [np.sin(dec), 0, np.cos(dec)]])
    around_z = np.array([[np.cos(ra), -np.sin(ra), 0], [np.sin(ra), np.cos(ra), 0], [0, 0, 1]])
    turn = (around_z @ around_y).T
    return {detector: corners @ turn for detector, corners in _camera_at_origin().items()}


@cache
def _camera_at_origin() -> dict[int, np.ndarray]:
    # The camera is mounted on an equatorial telescope: a pointing turns the sphere and changes nothing else.
    return {detector: unit_vectors(detector_outline(detector, 0.0, 0.0)) for detector in DETECTORS}


def positions(vectors: np.ndarray) -> np.ndarray:
    """Return RA and Dec (deg), (n, 2), of unit vectors; the inverse of `unit_vectors`."""
    x, y, z = np.asarray(vectors, float).T
    return np.degrees(np.stack([np.arctan2(y, x) % (2 * np.pi), np.arctan2(z, np.hypot(x, y))], axis=1))


def unit_vectors(positions_deg: np.ndarray) -> np.ndarray:
    """Return unit vectors, (n, 3), of positions (RA, Dec) in degrees."""
    ra, dec = np.radians(np.asarray(positions_deg, float).reshape(-1, 2)).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def hull(vectors: np.ndarray) -> ConvexPolygon:
    """Return the convex hull of unit vectors, (n, 3)."""
    return ConvexPolygon([UnitVector3d(*v) for v in vectors.tolist()])


def _padded(vectors: np.ndarray, padding: float) -> np.ndarray:
    """Move corners so that both sides that meet there move outwards by ``padding`` radians."""
    outwards = np.zeros_like(vectors)
    for neighbour in (np.roll(vectors, 1, axis=0), np.roll(vectors, -1, axis=0)):
        along = vectors - neighbour
        outwards += along / np.linalg.norm(along, axis=1, keepdims=True)
    moved = vectors + padding * outwards
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)
