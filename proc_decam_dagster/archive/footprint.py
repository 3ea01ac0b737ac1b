"""Which htm7 trixels the CCDs of a survey's exposures touch: exactly, from the camera's true outline."""

from functools import cache

import numpy as np
from astropy.table import Table

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import camera_outline, detector_outline
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.exposures import rows_of_obs_type
from proc_decam_dagster.survey.proc_types import PROC_TYPES

HTM_LEVEL = 7
POINTING_MARGIN_DEG = 0.05
"""By how much each CCD is grown on all sides: telescopes do not point exactly where the archive says, and reference
stars are wanted a little beyond an image's edge."""
POINTING_DEG = 0.005
"""Exposures that point within this of each other are looked at once; the margin holds it too."""


def shards_for(exposures: Table, margin_deg: float = POINTING_MARGIN_DEG) -> list[int]:
    """Return the htm7 ids of the trixels that the CCDs of a table's object exposures touch, sorted.

    Parameters
    ----------
    exposures : `astropy.table.Table`
        With RA(deg), DEC(deg); if it has obs_type, only object exposures count.
    margin_deg : `float`, optional
        By how much each CCD is grown.

    Raises
    ------
    SurveyError
        If the table has no positions.
    """
    from lsst.sphgeom import ConvexPolygon, HtmPixelization, UnitVector3d

    places = pointings(exposures)
    pixels = HtmPixelization(HTM_LEVEL)
    hull, detectors = _camera(float(margin_deg))
    wanted: set[int] = set()
    for ra, dec in places:
        turn = _rotation(ra, dec)
        outline = ConvexPolygon([UnitVector3d(*corner) for corner in (hull @ turn.T).tolist()])
        near = {i for begin, end in pixels.envelope(outline) for i in range(begin, end)}
        for shard in near - wanted:
            if touches(detectors @ turn.T, trixel_corners(shard)):
                wanted.add(shard)
    return sorted(wanted)


def pointings(exposures: Table) -> np.ndarray:
    """Return the different places, (n, 2) RA and Dec (deg), at which a table's object exposures point.

    Raises
    ------
    SurveyError
        If there are none.
    """
    absent = [c for c in ("RA(deg)", "DEC(deg)") if c not in exposures.colnames]
    if absent:
        raise SurveyError(f"the exposure table has no column {', '.join(absent)}", fix="use `proc-decam exposures`")
    if "obs_type" in exposures.colnames:
        exposures = rows_of_obs_type(exposures, PROC_TYPES["drp"].obs_type)
    columns = [np.ma.filled(np.ma.asarray(exposures[c]).astype(float), np.nan) for c in ("RA(deg)", "DEC(deg)")]
    places = np.column_stack(columns)
    places = places[np.isfinite(places).all(axis=1)]
    if not len(places):
        raise SurveyError("the exposure table has no object exposure with a position", "RA(deg) and DEC(deg) of some")
    cells = (places / POINTING_DEG).round()
    return places[np.unique(cells, axis=0, return_index=True)[1]]


def touches(polygons: np.ndarray, trixel: np.ndarray) -> bool:
    """Return whether any of some convex spherical polygons shares a point with a trixel.

    Two convex polygons smaller than a hemisphere are apart only if the great circle along an edge of one of them
    parts them: their gnomonic projections are convex polygons of the plane.

    Parameters
    ----------
    polygons : `numpy.ndarray`, (n, corners, 3)
        Counter-clockwise seen from outside.
    trixel : `numpy.ndarray`, (3, 3)
    """
    apart = (polygons @ _normals(trixel).T < 0).all(axis=1).any(axis=1)
    apart |= (_normals(polygons) @ trixel.T < 0).all(axis=2).any(axis=1)
    return not apart.all()


def trixel_corners(shard: int) -> np.ndarray:
    """Return the corners of a trixel as unit vectors, (3, 3), counter-clockwise seen from outside."""
    from lsst.sphgeom import HtmPixelization

    return np.array([[v.x(), v.y(), v.z()] for v in HtmPixelization(HTM_LEVEL).triangle(shard).getVertices()])


def shards_of_positions(ra_deg, dec_deg) -> np.ndarray:
    """Return the htm7 id of each position."""
    from lsst.sphgeom import HtmPixelization, UnitVector3d

    pixels = HtmPixelization(HTM_LEVEL)
    return np.array([pixels.index(UnitVector3d(*v)) for v in _vectors(ra_deg, dec_deg).tolist()], np.int64)


def _normals(corners: np.ndarray) -> np.ndarray:
    """Return the inward normals of the edges of polygons (…, corners, 3)."""
    return np.cross(corners, np.roll(corners, -1, axis=-2))


def _vectors(ra_deg, dec_deg) -> np.ndarray:
    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _rotation(ra_deg: float, dec_deg: float) -> np.ndarray:
    """Return the matrix that turns RA 0, Dec 0 to a place, north staying up."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    east = [-np.sin(ra), np.cos(ra), 0.0]
    north = [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)]
    return np.array([_vectors(ra_deg, dec_deg), east, north]).T


@cache
def _camera(margin_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the hull (n, 3) and the CCDs (62, 4, 3), grown, of a camera that points to RA 0, Dec 0."""
    detectors = np.array([_plane(detector_outline(d, 0.0, 0.0)) for d in sorted(DETECTORS)])
    # CCDs lie along the axes, so growing by signs moves each side outwards by the margin.
    detectors += margin_deg * np.sign(detectors - detectors.mean(axis=1, keepdims=True))
    hull = _plane(camera_outline(0.0, 0.0))
    hull *= 1 + 2 * margin_deg / np.linalg.norm(hull, axis=1, keepdims=True)
    return _counter_clockwise(_unproject(hull)), np.array([_counter_clockwise(_unproject(d)) for d in detectors])


def _plane(outline: np.ndarray) -> np.ndarray:
    """Return tangent-plane coordinates (deg) of positions near RA 0, Dec 0."""
    v = _vectors(outline[:, 0], outline[:, 1])
    return np.degrees(v[:, 1:] / v[:, :1])


def _unproject(plane: np.ndarray) -> np.ndarray:
    v = np.concatenate([np.ones((len(plane), 1)), np.radians(plane)], axis=1)
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def _counter_clockwise(corners: np.ndarray) -> np.ndarray:
    around = np.cross(corners[0], corners[1]) @ corners.mean(axis=0)
    return corners if around > 0 else corners[::-1]
