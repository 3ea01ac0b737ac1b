"""Reference catalogues: LSST-format htm7 shards, ingested where they lie, their content checked against their id."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from lsst.daf.butler import CollectionType
from lsst.sphgeom import HtmPixelization, LonLat, UnitVector3d

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import REFCATS

LEVEL = 7
TOLERANCE_ARCSEC = 1.0
"""Catalogues move some sources over an edge when positions are improved after the shards were made."""
SHARD_NAME = re.compile(r"(\d{6})\.fits")


def ingest_refcats(repo: Repository, shards: Mapping[str, Iterable[str | os.PathLike]]) -> dict[str, int]:
    """Ingest shards into ``refcats/{catalogue}``, chain them as ``refcats``, and return how many were new of each.

    Parameters
    ----------
    shards : mapping
        Catalogue (``ps1``, ``gaia_dr3``, ``gaia_dr2``, or its dataset type's name) → paths of ``{htm7}.fits``.

    Raises
    ------
    SurveyError
        If a catalogue is unknown, or a shard is missing, unreadable, or not of its htm7 id; nothing is ingested then.
    """
    checked = {dataset_type_of(name): _check_shards(paths) for name, paths in shards.items()}
    counts = {}
    butler = repo.butler(writeable=True)
    with repo.lock(REFCATS, wait_seconds=60):
        runs = []
        for dataset_type, by_id in checked.items():
            run = f"{REFCATS}/{_short_name(dataset_type)}"
            butler.collections.register(run, CollectionType.RUN)
            counts[dataset_type] = repo.engine.ingest_refcat_shards(butler, dataset_type, by_id, run)
            runs.append(run)
        butler.collections.register(REFCATS, CollectionType.CHAINED)
        chained = list(butler.collections.get_info(REFCATS).children)
        butler.collections.redefine_chain(REFCATS, chained + [run for run in runs if run not in chained])
    return counts


def dataset_type_of(name: str) -> str:
    """Return the dataset type of a catalogue, given by its short name or by that of its dataset type.

    Raises
    ------
    SurveyError
        If the catalogue is unknown.
    """
    if name in datasets.REFCATS:
        return datasets.REFCATS[name]
    if name in datasets.REFCATS.values():
        return name
    known = ", ".join(f"{short} ({full})" for short, full in datasets.REFCATS.items())
    raise SurveyError(f"reference catalogue {name!r} is unknown", f"one of {known}")


def _short_name(dataset_type: str) -> str:
    return next(short for short, full in datasets.REFCATS.items() if full == dataset_type)


def _check_shards(paths: Iterable[str | os.PathLike]) -> dict[int, Path]:
    by_id = {}
    for path in map(Path, paths):
        by_id[check_shard(path)] = path.resolve()
    return by_id


def check_shard(path: Path) -> int:
    """Return the htm7 id of a shard after checking that each of its sources lies in that trixel, or at its edge.

    Raises
    ------
    SurveyError
        If the name is no htm7 id, the file is missing or unreadable, or a source lies elsewhere.
    """
    fix = "delete it, and run `proc-decam refcats` again, which fetches what is not there"
    name = SHARD_NAME.fullmatch(path.name)
    if name is None:
        raise SurveyError(f"shard {path} has no htm{LEVEL} id for a name", "{htm7 id}.fits", fix)
    if not path.is_file():
        raise SurveyError(f"shard {path} does not exist", fix=fix)
    shard = int(name.group(1))
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
        raise SurveyError(f"shard {path} holds sources of htm{LEVEL} {others}", f"only those of {shard}", fix)
    return shard


def _outside(shard: int, ra: np.ndarray, dec: np.ndarray) -> list[int]:
    """Return the other trixels in which sources (radians) lie, more than the tolerance beyond the shard's edges."""
    pixels = HtmPixelization(LEVEL)
    if not pixels.universe().contains(shard):
        return [pixels.index(UnitVector3d(LonLat.fromRadians(r, d))) for r, d in zip(ra[:1], dec[:1])]
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    corners = np.array([[v.x(), v.y(), v.z()] for v in pixels.triangle(shard).getVertices()])
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    off = (vectors @ normals.T).min(axis=1) < -np.radians(TOLERANCE_ARCSEC / 3600)
    return sorted({pixels.index(UnitVector3d(*v)) for v in vectors[off].tolist()})
