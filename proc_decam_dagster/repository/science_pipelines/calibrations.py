"""The instrument and its calibrations: registration, curated calibrations of obs_decam_data, defects of ip_isr."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from astropy.table import Table
from lsst.daf.butler import CollectionType, DatasetType

from proc_decam_dagster.repository.presence import has_collection, has_dataset_type
from proc_decam_dagster.repository.science_pipelines.release import stack
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import CALIB

CAMERA = "camera"
INPUT = re.compile(r"CPP_INPUT_\d+")
"""Header keywords of a master's exposures."""
BOX = ("x0", "y0", "width", "height")


def register_instrument(butler: Any) -> None:
    """Register DECam with its detectors and filters; does nothing the second time."""
    stack("lsst.obs.decam").DarkEnergyCamera().register(butler.registry)


def write_curated_calibrations(butler: Any) -> int:
    """Write what ``DECam/calib`` lacks of the camera geometry and the curated calibrations; return how many were new.

    Whole dataset types are written or left out: obs_base writes each in a transaction of its own, and refuses one
    that is there.
    """
    instrument = stack("lsst.obs.decam").DarkEnergyCamera()
    before = _count(butler)
    if not _has(butler, CAMERA):
        instrument.writeCameraGeom(butler, CALIB)
    # On this object only: obs_base reads from it which types to write.
    instrument.standardCuratedDatasetTypes = frozenset(
        name for name in instrument.standardCuratedDatasetTypes if not _has(butler, name)
    )
    instrument.writeStandardTextCuratedCalibrations(butler, CALIB)
    if not any(_has(butler, name) for name in instrument.additionalCuratedDatasetTypes):
        instrument.writeAdditionalCuratedCalibrations(butler, CALIB)
    return _count(butler) - before


def put_defects(butler: Any, dataset_type: str, boxes: Mapping[int, Table], run: str, instrument: str) -> list[Any]:
    """Write `lsst.ip.isr.Defects`, one a detector, into a run that has none; return the new refs.

    Parameters
    ----------
    boxes : mapping
        Detector → table of ``x0, y0, width, height`` (pixels, 0-based), which do not overlap.
    """
    kind = DatasetType(
        dataset_type, ("instrument", "detector"), "Defects", universe=butler.dimensions, isCalibration=True
    )
    camera = stack("lsst.obs.decam").DarkEnergyCamera().getCamera()
    converted = {
        detector: _defects(table, camera, detector, suspect=dataset_type == datasets.SUSPECT_MASK)
        for detector, table in sorted(boxes.items())
    }
    butler.registry.registerDatasetType(kind)
    with butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
        butler.collections.register(run, CollectionType.RUN)
    with butler.transaction():
        return [
            butler.put(defects, kind, {"instrument": instrument, "detector": detector}, run=run)
            for detector, defects in converted.items()
        ]


def master_exposures(butler: Any, ref: Any) -> list[int]:
    """Return the exposures that cp_pipe says in a master's header it was combined from; none if it does not say."""
    if "metadata" not in ref.datasetType.storageClass.allComponents():
        return []
    header = butler.get(ref.makeComponentRef("metadata"))
    return sorted(int(header[key]) for key in header if INPUT.fullmatch(key))


def master_pixels(butler: Any, ref: Any) -> np.ndarray | None:
    """Return a sixteenth of a master's rows; `None` if it is no image."""
    if "image" not in ref.datasetType.storageClass.allComponents():
        return None
    pixels = getattr(butler.get(ref.makeComponentRef("image")), "array", None)
    return None if pixels is None else pixels[::16]


def read_defects(butler: Any, ref: Any) -> Table:
    """Return the boxes of a detector's defects, as `put_defects` takes them."""
    stack("lsst.ip.isr")
    (table,) = butler.get(ref).toTable()
    return Table({name: np.asarray(table[name], np.int32) for name in BOX})


def _defects(boxes: Table, camera: Any, detector: int, *, suspect: bool) -> Any:
    """Return the boxes as ip_isr's defects, with the metadata that its readers look for."""
    geom = stack("lsst.geom")
    bounds = [
        geom.Box2I(geom.Point2I(int(x), int(y)), geom.Extent2I(int(width), int(height)))
        for x, y, width, height in boxes.iterrows(*BOX)
    ]
    # Normalising makes other boxes of the same pixels; ours are few already.
    defects = stack("lsst.ip.isr").Defects(bounds, normalize_on_init=False)
    extra = {"DEFECTTYPE": "SUSPECTPIXEL"} if suspect else {}
    defects.updateMetadata(
        camera=camera, detector=camera[detector], CALIBDATE=datetime.now(UTC).isoformat(timespec="seconds"), **extra
    )
    return defects


def _has(butler: Any, dataset_type: str) -> bool:
    """Whether any dataset of a type is certified in ``DECam/calib``."""
    if not (has_collection(butler, CALIB) and has_dataset_type(butler, dataset_type)):
        return False
    return bool(butler.query_datasets(dataset_type, CALIB, find_first=False, limit=1, explain=False))


def _count(butler: Any) -> int:
    """Return the number of datasets in the RUNs of curated calibrations."""
    if not butler.collections.query(f"{CALIB}/*", collection_types={CollectionType.RUN}):
        return 0
    return len(butler.query_all_datasets(f"{CALIB}/*", find_first=False, limit=None))
