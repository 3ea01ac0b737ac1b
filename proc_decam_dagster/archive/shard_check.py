"""Whether a reference-catalogue shard is what its name says: readable, and all of its sources in its trixel."""

import re
from pathlib import Path

import numpy as np
from astropy.io import fits

from proc_decam_dagster.archive.footprint import HTM_LEVEL
from proc_decam_dagster.errors import SurveyError

TOLERANCE_ARCSEC = 1.0
"""Catalogues move some sources over an edge when positions are improved after the shards were made."""
SHARD_NAME = re.compile(r"(\d{6})\.fits")


def check_shard(path: Path, name: str = "") -> int:
    """Return the htm7 id of a shard after checking that each of its sources lies in that trixel, or at its edge.

    Parameters
    ----------
    path : `pathlib.Path`
    name : `str`, optional
        ``<htm7 id>.fits``, where the file has not got it yet.

    Raises
    ------
    SurveyError
        If the name is no htm7 id, the file is missing or unreadable, or a source lies elsewhere.
    """
    fix = "delete it, and run `proc-decam refcats` again, which fetches what is not there"
    named = SHARD_NAME.fullmatch(name or path.name)
    if named is None:
        raise SurveyError(f"shard {path} has no htm{HTM_LEVEL} id for a name", "{htm7 id}.fits", fix)
    if not path.is_file():
        raise SurveyError(f"shard {path} does not exist", fix=fix)
    shard = int(named.group(1))
    try:
        with fits.open(path, memmap=False) as hdus:
            ra, dec = (np.asarray(hdus[1].data[c], float) for c in ("coord_ra", "coord_dec"))
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SurveyError(
            f"shard {path} cannot be read ({error})", "an LSST-format catalogue with coord_ra and coord_dec", fix
        ) from None
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise SurveyError(f"shard {path} has sources without coordinates", "coord_ra and coord_dec in radians", fix)
    strange = _outside(shard, ra, dec)
    if strange:
        others = ", ".join(map(str, strange[:3]))
        raise SurveyError(f"shard {path} holds sources of htm{HTM_LEVEL} {others}", f"only those of {shard}", fix)
    return shard


def _outside(shard: int, ra: np.ndarray, dec: np.ndarray) -> list[int]:
    """Return the other trixels in which sources (radians) lie, more than the tolerance beyond the shard's edges."""
    from lsst.sphgeom import HtmPixelization, LonLat, UnitVector3d

    pixels = HtmPixelization(HTM_LEVEL)
    if not pixels.universe().contains(shard):
        return [pixels.index(UnitVector3d(LonLat.fromRadians(r, d))) for r, d in zip(ra[:1], dec[:1])]
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    corners = np.array([[v.x(), v.y(), v.z()] for v in pixels.triangle(shard).getVertices()])
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    off = (vectors @ normals.T).min(axis=1) < -np.radians(TOLERANCE_ARCSEC / 3600)
    return sorted({pixels.index(UnitVector3d(*v)) for v in vectors[off].tolist()})
