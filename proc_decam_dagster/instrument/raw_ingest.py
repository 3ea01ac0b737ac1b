"""Raw files into the Butler: exposure records from headers, and the ingest itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lsst.daf.butler import (
    Butler,
    CollectionType,
    DataCoordinate,
    DatasetIdGenEnum,
    DatasetRef,
    DatasetType,
    FileDataset,
)

from proc_decam_dagster.instrument.formatters import RawFormatter
from proc_decam_dagster.instrument.raw import scan_raw
from proc_decam_dagster.instrument.translation import day_obs_record, exposure_record
from proc_decam_dagster.survey import datasets

STORAGE_CLASS = "DecamRaw"


@dataclass(frozen=True)
class RawFile:
    """What a raw file's headers say.

    Attributes
    ----------
    path : `str`
    exposure : `int`
        EXPNUM.
    record : `dict`
        Fields of the exposure's dimension record.
    detectors : `tuple` [`int`, ...]
        CCDNUM of the science extensions.
    """

    path: str
    exposure: int
    record: dict[str, Any]
    detectors: tuple[int, ...]


def read_raw_file(path: str) -> RawFile:
    """Read a raw file's headers; no pixels are read.

    Raises
    ------
    SurveyError
        If the file is missing, truncated, no DECam raw, or taken through an unknown filter.
    """
    primary, extensions = scan_raw(path)
    # A raw primary header does not say in which system the pointing is; every extension does.
    record = exposure_record(dict(next(iter(extensions.values()))) | dict(primary), path)
    return RawFile(path, record["id"], record, tuple(sorted(extensions)))


def ingest_raw_files(butler: Butler, raw_files: Iterable[RawFile], *, transfer: str, run: str) -> None:
    """Insert the dimension records and ingest the raws of some files, all or none."""
    raw_files = list(raw_files)
    dataset_type = DatasetType(
        datasets.RAW, ("instrument", "exposure", "detector"), STORAGE_CLASS, universe=butler.dimensions
    )
    butler.registry.registerDatasetType(dataset_type)
    with butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
        butler.collections.register(run, CollectionType.RUN)
    records = [f.record for f in raw_files]
    days = [day_obs_record(day) for day in sorted({r["day_obs"] for r in records})]
    groups = [{"instrument": r["instrument"], "name": r["group"]} for r in records]
    with butler.transaction():
        insert = butler.registry.insertDimensionData
        insert("day_obs", *days, skip_existing=True)
        insert("group", *groups, skip_existing=True)
        insert("exposure", *records, skip_existing=True)
        butler.ingest(
            *(_file_dataset(butler, dataset_type, f, run) for f in raw_files),
            transfer=transfer, record_validation_info=transfer != "direct",
        )  # fmt: skip


def _file_dataset(butler: Butler, dataset_type: DatasetType, raw: RawFile, run: str) -> FileDataset:
    refs = [
        DatasetRef(
            dataset_type,
            DataCoordinate.standardize(
                instrument=raw.record["instrument"],
                exposure=raw.exposure,
                detector=detector,
                universe=butler.dimensions,
            ),
            run=run,
            # The same file ingested again, or in another repository, is the same dataset.
            id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN,
        )
        for detector in raw.detectors
    ]
    return FileDataset(path=raw.path, refs=refs, formatter=RawFormatter)
