"""Skymaps with lsst.skymap: the whole sky in rings, as obs_decam configures it, and a discrete one fitted to fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lsst.daf.butler import MissingCollectionError, MissingDatasetTypeError

from proc_decam_dagster.camera.fields import CELL_MARGIN_ARCSEC, bounding_circle, field_outline, group_fields, positions
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.science_pipelines.release import stack
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import SKYMAPS

RINGS_NAME = "decam_rings_v1"
NUMBER_OF_RINGS = 120
RINGS_OVERLAP_DEG = 1 / 60
RINGS_PIXEL_SCALE = 0.262
"""Rings as obs_decam's ``makeSkyMap.py`` has them (arcseconds a pixel); patches are the legacy builder's default."""
PIXEL_SCALE = 0.263
"""Arcseconds a pixel of a discrete skymap: DECam's own."""
MARGIN_ARCSEC = 60.0
"""Room kept around the fields: telescopes do not point exactly where they say."""
KINDS = {"DiscreteSkyMap": "discrete", "RingsSkyMap": "rings"}


@dataclass(frozen=True)
class StackSkyMap:
    """A skymap of lsst.skymap with the name that the repository gives it; a kind we never make has its class's name."""

    name: str
    kind: str
    skymap: Any


def rings_skymap(name: str = "") -> StackSkyMap:
    """Return the skymap of the whole sky, under obs_decam's name if none is given."""
    rings = stack("lsst.skymap.ringsSkyMap").RingsSkyMap  # the package itself does not export it
    config = rings.ConfigClass()
    config.numRings = NUMBER_OF_RINGS
    config.tractOverlap = RINGS_OVERLAP_DEG
    config.pixelScale = RINGS_PIXEL_SCALE
    config.projection = "TAN"
    return StackSkyMap(name or RINGS_NAME, "rings", rings(config))


def discrete_skymap(name: str, pointings: Sequence[tuple[float, float]]) -> StackSkyMap:
    """Return a skymap of one square tract a connected group of fields, which holds the camera at every pointing."""
    skymap = stack("lsst.skymap")
    circles = []
    for points in group_fields(pointings):
        center, radius = bounding_circle(points)
        ra, dec = (round(float(each), 5) for each in positions(center))
        circles.append((ra, dec, round(radius + (MARGIN_ARCSEC + CELL_MARGIN_ARCSEC) / 3600, 5)))
    config = skymap.DiscreteSkyMap.ConfigClass()
    config.raList, config.decList, config.radiusList = (list(each) for each in zip(*sorted(circles)))
    config.tractOverlap = 0.0
    config.pixelScale = PIXEL_SCALE
    config.projection = "TAN"
    return StackSkyMap(name, "discrete", skymap.DiscreteSkyMap(config))


def find_skymap(butler: Any, name: str) -> StackSkyMap | None:
    """Return a registered skymap; `None` if there is none of this name."""
    if not _records(butler, name):
        return None
    try:
        ref = butler.find_dataset(datasets.SKYMAP, skymap=name, collections=SKYMAPS)
    except (MissingCollectionError, MissingDatasetTypeError):
        return None
    if ref is None:
        return None
    stack("lsst.skymap")
    skymap = butler.get(ref)
    kind = type(skymap).__name__
    return StackSkyMap(name, KINDS.get(kind, kind), skymap)


def register_skymap(butler: Any, skymap: StackSkyMap) -> bool:
    """Register a skymap with all its tracts and patches; return whether it was new.

    Raises
    ------
    SurveyError
        If another skymap has this name.
    """
    known = _records(butler, skymap.name)
    if known and bytes(known[0].hash) != skymap.skymap.getSha1():
        raise SurveyError(
            f"skymap {skymap.name!r} exists with other tracts; a skymap never changes", "the same exposures",
            "give the new one another name with `--name`",
        )  # fmt: skip
    if not known:
        skymap.skymap.register(skymap.name, butler)
    return not known


def outside_skymap(butler: Any, name: str, pointings: Sequence[tuple[float, float]]) -> list[bool]:
    """Return of each pointing whether a corner of the camera's outline falls on no tract.

    Every skymap of lsst.skymap but the discrete one covers the whole sky.
    """
    known = find_skymap(butler, name)
    if known is None:
        raise SurveyError(f"skymap {name!r} is not in the repository", fix="register it with `proc-decam skymap`")
    if known.kind != "discrete":
        return [False] * len(pointings)
    geom = stack("lsst.geom")
    tracts = list(known.skymap)

    def out(pointing: tuple[float, float]) -> bool:
        corners = [geom.SpherePoint(float(ra), float(dec), geom.degrees) for ra, dec in field_outline(pointing)]
        return not all(any(tract.contains(corner) for tract in tracts) for corner in corners)

    found = {each: out(each) for each in set(pointings)}
    return [found[each] for each in pointings]


def _records(butler: Any, name: str) -> list[Any]:
    return butler.query_dimension_records("skymap", where="skymap=name", bind={"name": name}, explain=False)
