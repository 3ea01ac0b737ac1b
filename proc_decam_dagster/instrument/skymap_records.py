"""A skymap in the Butler: its dataset, its dimension record, and those of its tracts and patches.

Tracts and patches of a whole-sky skymap are inserted only where exposures fall, when their visits are defined: all of
them at once are over a million rows with their spatial index. A discrete skymap's are inserted when it is registered.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from lsst.daf.butler import Butler, CollectionType, DatasetType, MissingCollectionError, MissingDatasetTypeError

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.regions import camera_vectors, polygon, positions
from proc_decam_dagster.pixels.skymap import SkyMap
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import SKYMAPS

STORAGE_CLASS = "DecamSkyMap"
DISCRETE = "discrete"


def register_skymap(butler: Butler, skymap: SkyMap) -> bool:
    """Register a skymap with its dataset in ``skymaps``; return whether it was new.

    Raises
    ------
    SurveyError
        If another skymap has this name.
    """
    digest = _digest(skymap)
    known = butler.query_dimension_records("skymap", where="skymap=name", bind={"name": skymap.name}, explain=False)
    if known and bytes(known[0].hash) != digest:
        raise SurveyError(
            f"skymap {skymap.name!r} exists with other tracts; a skymap never changes",
            "the same exposures",
            "give the new one another name with `--name`",
        )
    dataset_type = DatasetType(datasets.SKYMAP, ("skymap",), STORAGE_CLASS, universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)
    with butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
        butler.collections.register(SKYMAPS, CollectionType.RUN)
    tracts = skymap.tracts
    record = {
        "name": skymap.name, "hash": digest, "tract_max": len(tracts),
        "patch_nx_max": max(t.nx for t in tracts), "patch_ny_max": max(t.ny for t in tracts),
    }  # fmt: skip
    with butler.transaction():
        butler.registry.syncDimensionData("skymap", record)
        if butler.find_dataset(dataset_type, skymap=skymap.name, collections=SKYMAPS) is None:
            butler.put(skymap, dataset_type, {"skymap": skymap.name}, run=SKYMAPS)
        if skymap.kind == DISCRETE:
            _insert_tracts(butler, skymap, [t.id for t in tracts])
    return not known


def load_skymap(butler: Butler, name: str) -> SkyMap | None:
    """Return a registered skymap; `None` if there is none of this name."""
    if not butler.query_dimension_records("skymap", where="skymap=name", bind={"name": name}, explain=False):
        return None
    try:
        ref = butler.find_dataset(datasets.SKYMAP, skymap=name, collections=SKYMAPS)
    except (MissingCollectionError, MissingDatasetTypeError):
        return None
    return None if ref is None else butler.get(ref)


def cover(butler: Butler, name: str, pointings: Sequence[tuple[float, float]]) -> int:
    """Insert the tracts that the camera touches at some pointings, if they are not there; return how many were new."""
    skymap = load_skymap(butler, name)
    if skymap is None or not pointings:
        return 0
    present = {
        r.id
        for r in butler.query_dimension_records(
            "tract", where="skymap=name", bind={"name": name}, limit=None, explain=False
        )
    }
    if len(present) == len(skymap.tracts):
        return 0
    touched = {
        tract
        for ra, dec in sorted(set(pointings))
        for corners in camera_vectors(ra, dec).values()
        for tract, _ in skymap.overlapping(positions(corners))
    }
    with butler.transaction():
        _insert_tracts(butler, skymap, sorted(touched - present))
    return len(touched - present)


def outside(butler: Butler, name: str, pointings: Sequence[tuple[float, float]]) -> list[bool]:
    """Return of each pointing whether a corner of a detector falls on no tract."""
    skymap = load_skymap(butler, name)
    if skymap is None:
        raise SurveyError(f"skymap {name!r} is not in the repository", fix="register it with `proc-decam skymap`")
    found = {each: not _contains(skymap, each) for each in set(pointings)}
    return [found[each] for each in pointings]


def _contains(skymap: SkyMap, pointing: tuple[float, float]) -> bool:
    corners = positions(np.concatenate(list(camera_vectors(*pointing).values())))
    for number, _ in skymap.find(*pointing):
        tract = skymap.tract(number)
        x, y = (each + 0.5 for each in tract.sky_to_pixel(*corners.T))
        ny, nx = tract.shape
        # Written so that a NaN, beyond the tract's horizon, is outside.
        corners = corners[~((x >= 0) & (x < nx) & (y >= 0) & (y < ny))]
    return all(skymap.find(ra, dec) for ra, dec in corners.tolist())


def _digest(skymap: SkyMap) -> bytes:
    return bytes.fromhex(skymap.sha1) if isinstance(skymap.sha1, str) else bytes(skymap.sha1)


def _insert_tracts(butler: Butler, skymap: SkyMap, tracts: Iterable[int]) -> None:
    rows: dict[str, list[dict[str, Any]]] = {"tract": [], "patch": []}
    for number in tracts:
        tract = skymap.tract(number)
        rows["tract"].append({"skymap": skymap.name, "id": tract.id, "region": polygon(tract.polygon())})
        for index in range(tract.nx * tract.ny):
            rows["patch"].append(
                {
                    "skymap": skymap.name, "tract": tract.id, "id": index, "cell_x": index % tract.nx,
                    "cell_y": index // tract.nx, "region": polygon(tract.patch(index).polygon()),
                }
            )  # fmt: skip
    for element, records in rows.items():
        if records:
            butler.registry.insertDimensionData(element, *records, skip_existing=True)
