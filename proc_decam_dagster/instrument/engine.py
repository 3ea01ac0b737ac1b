"""The embedded engine, as the repository sees it: every part that depends on our own instrument and storage classes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from lsst.daf.butler import (
    Butler,
    CollectionType,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    FileDataset,
    Timespan,
)

from proc_decam_dagster.camera.crosstalk import sources
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.linearity import linearity
from proc_decam_dagster.instrument import DarkEnergyCamera, skymap_records
from proc_decam_dagster.instrument.formatters import RefcatFormatter
from proc_decam_dagster.instrument.raw_ingest import RawFile, ingest_raw_files, read_raw_file
from proc_decam_dagster.instrument.storage import butler_seed_config
from proc_decam_dagster.instrument.visit_definition import define_visits
from proc_decam_dagster.pixels.skymap import SkyMap
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import CALIB

INSTRUMENT = "DECam"
SAMPLE = (0, 1024, 2048, 1088)
"""Rectangle (x0, y0, x1, y1) that tells a master's level: all columns of 64 rows."""
CURATED_RUN = f"{CALIB}/curated"


class EmbeddedEngine:
    """The engine that needs no science stack."""

    name = "embedded"
    instrument_class = "proc_decam_dagster.instrument.DarkEnergyCamera"
    pipeline_folder = "embedded"
    coadd_memory_mb = ()
    worker_modules = ("numba", "scipy.ndimage")

    def require(self) -> None:
        """Do nothing: what this engine needs was imported with it."""

    def seed_config(self) -> Mapping[str, Any]:
        """Return our storage classes and formatters as Butler configuration."""
        return butler_seed_config().toDict()

    def register_instrument(self, butler: Butler) -> None:
        """Register DECam with its detectors and filters."""
        DarkEnergyCamera().register(butler.registry)

    def write_curated_calibrations(self, butler: Butler) -> int:
        """Write each detector's crosstalk and linearizer into ``DECam/calib`` for all time; return how many were new.

        The datasets are those that `proc_decam_dagster.tasks.curated` reads. A detector whose linearity was never
        measured (CCD 61) has a linearizer that corrects nothing.
        """
        with butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
            butler.collections.register(CURATED_RUN, CollectionType.RUN)
        butler.collections.register(CALIB, CollectionType.CALIBRATION)
        curated = {
            datasets.CROSSTALK: lambda detector: {"sources": [list(row) for row in sources(detector)]},
            datasets.LINEARIZER: lambda detector: {
                "amplifiers": {
                    name: {"adu": each.adu.tolist(), "correction": each.correction.tolist()}
                    for name, each in linearity(detector).items()
                }
            },
        }
        new = []
        for name, content in curated.items():
            kind = _dataset_type(
                butler, name, ("instrument", "detector"), "StructuredDataDict", is_calibration=True
            )  # fmt: skip
            missing = sorted(set(DETECTORS) - set(_known(butler, kind, CURATED_RUN)))
            with butler.transaction():
                refs = [_put(butler, {"detector": d} | content(d), kind, CURATED_RUN, detector=d) for d in missing]
                butler.registry.certify(CALIB, refs, Timespan(None, None))
            new += refs
        return len(new)

    def read_raw(self, path: str) -> RawFile:
        """Read a raw file's headers."""
        return read_raw_file(path)

    def ingest_raws(self, butler: Butler, raw_files: Iterable[RawFile], *, transfer: str, run: str) -> None:
        """Insert the dimension records and ingest the raws of some files, all or none."""
        ingest_raw_files(butler, raw_files, transfer=transfer, run=run)

    def define_visits(self, butler: Butler, exposures: Iterable[int], skymap: str) -> int:
        """Define visits, and the tracts of a whole-sky skymap that they fall on; return how many visits were new."""
        new, pointings = define_visits(butler, exposures, INSTRUMENT)
        if skymap:
            skymap_records.cover(butler, skymap, pointings)
        return new

    def rings_skymap(self, name: str = "") -> SkyMap:
        """Return the whole sky's skymap, under its own name if none is given."""
        return SkyMap.rings(name) if name else SkyMap.rings()

    def discrete_skymap(self, name: str, pointings: Sequence[tuple[float, float]]) -> SkyMap:
        """Return a skymap that contains the camera's outline at every pointing."""
        return SkyMap.discrete(name, list(pointings))

    def find_skymap(self, butler: Butler, name: str) -> SkyMap | None:
        """Return a registered skymap; `None` if there is none of this name."""
        return skymap_records.load_skymap(butler, name)

    def register_skymap(self, butler: Butler, skymap: SkyMap) -> bool:
        """Register a skymap with its dataset; return whether it was new."""
        return skymap_records.register_skymap(butler, skymap)

    def outside_skymap(self, butler: Butler, name: str, pointings: Sequence[tuple[float, float]]) -> list[bool]:
        """Return of each pointing whether a part of the camera falls on no tract."""
        return skymap_records.outside(butler, name, pointings)

    def put_defects(self, butler: Butler, dataset_type: str, boxes: Mapping[int, Table], run: str) -> list[DatasetRef]:
        """Write one table of boxes a detector into a run that has none; return the new refs."""
        kind = _dataset_type(butler, dataset_type, ("instrument", "detector"), "DecamDefects", is_calibration=True)
        with butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
            butler.collections.register(run, CollectionType.RUN)
        with butler.transaction():
            return [_put(butler, table, kind, run, detector=d) for d, table in sorted(boxes.items())]

    def read_defects(self, butler: Butler, ref: DatasetRef) -> Table:
        """Return the table of boxes of a detector's defects."""
        return butler.get(ref)

    def master_exposures(self, butler: Butler, ref: DatasetRef) -> tuple[list[int], list[int]]:
        """Return the exposures that a master was combined from, and those that its task rejected."""
        if "metadata" not in ref.datasetType.storageClass.allComponents():
            return [], []
        metadata = butler.get(ref.makeComponentRef("metadata"))  # as the combining tasks write it
        used, rejected = metadata.get("exposures", ""), metadata.get("rejected", "")
        return [int(n) for n in re.findall(r"\d+", used)], [int(n) for n in re.findall(r"(?:^|; )(\d+): ", rejected)]

    def master_pixels(self, butler: Butler, ref: DatasetRef) -> np.ndarray | None:
        """Return some of a master's pixels, of both amplifiers; `None` if it is no image."""
        if "bbox" not in ref.datasetType.storageClass.parameters:
            return None
        return butler.get(ref, parameters={"bbox": SAMPLE}).image

    def ingest_refcat_shards(self, butler: Butler, dataset_type: str, shards: Mapping[int, Path], run: str) -> int:
        """Ingest shards where they lie; return how many were new."""
        kind = _dataset_type(butler, dataset_type, ("htm7",), "DecamRefcat")
        known = {
            r.dataId["htm7"] for r in butler.query_datasets(kind, run, limit=None, find_first=False, explain=False)
        }
        new = {shard: path for shard, path in shards.items() if shard not in known}
        files = [
            FileDataset(
                path=str(path), formatter=RefcatFormatter,
                refs=DatasetRef(kind, DataCoordinate.standardize(htm7=shard, universe=butler.dimensions), run=run),
            )
            for shard, path in new.items()
        ]  # fmt: skip
        if files:
            butler.ingest(*files, transfer="direct", record_validation_info=False)
        return len(new)

    def put_fakes(self, butler: Butler, tables: Mapping[str, Table], run: str) -> None:
        """Write one table of synthetic sources a band."""
        kind = _dataset_type(butler, datasets.FAKES, ("instrument", "band"), "ArrowAstropy")
        with butler.transaction():
            for band, table in tables.items():
                _put(butler, table, kind, run, band=band)


def _dataset_type(
    butler: Butler, name: str, dimensions: tuple[str, ...], storage_class: str, is_calibration: bool = False
) -> DatasetType:
    """Return a dataset type, registered."""
    kind = DatasetType(name, dimensions, storage_class, universe=butler.dimensions, isCalibration=is_calibration)
    butler.registry.registerDatasetType(kind)
    return kind


def _put(butler: Butler, content: Any, kind: DatasetType, run: str, **data_id: Any) -> DatasetRef:
    return butler.put(content, kind, {"instrument": INSTRUMENT, **data_id}, run=run)


def _known(butler: Butler, kind: DatasetType, run: str) -> dict[int, DatasetRef]:
    """Return the datasets of a run by detector."""
    refs = butler.query_datasets(kind, run, find_first=False, limit=None, explain=False)
    return {ref.dataId["detector"]: ref for ref in refs}
