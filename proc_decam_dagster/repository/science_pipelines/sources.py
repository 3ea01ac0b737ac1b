"""Catalogues that pipelines read: synthetic sources for source_injection, and reference-catalogue shards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astropy.table import Table
from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, FileDataset

from proc_decam_dagster.repository.science_pipelines.release import stack

SOURCE_TYPE = "DeltaFunction"
"""GalSim's name of a point source."""


def put_fakes(butler: Any, tables: Mapping[str, Table], run: str) -> None:
    """Write synthetic sources as ``injection_catalog``, by htm7 and band, the way source_injection shards them."""
    ingest = stack("lsst.source.injection").ingest_injection_catalog
    for band, table in tables.items():
        ingest(writeable_butler=butler, table=injection_catalog(table), band=band, output_collection=run)


def injection_catalog(table: Table) -> Table:
    """Return synthetic sources with the columns that source_injection and our pipelines read.

    Parameters
    ----------
    table : `astropy.table.Table`
        Columns ``ra``, ``dec`` (deg), ``mag`` (AB), ``expnum``, ``fake_id``.

    Returns
    -------
    catalog : `astropy.table.Table`
        ``injection_id`` is the row of the user's table; ``EXPNUM``, which the pipelines' ``selection`` compares with
        the visit, and ``visit``, by which source_injection's own examples do, say the same.
    """
    return Table(
        {
            "injection_id": table["fake_id"], "ra": table["ra"], "dec": table["dec"], "mag": table["mag"],
            "source_type": [SOURCE_TYPE] * len(table), "EXPNUM": table["expnum"], "visit": table["expnum"],
        }
    )  # fmt: skip


def ingest_refcat_shards(butler: Any, dataset_type: str, shards: Mapping[int, Path], run: str) -> int:
    """Ingest shards where they lie, as ``SimpleCatalog``; return how many were new."""
    stack("lsst.meas.algorithms")  # nothing is called in it, but without a stack the shards could not be read
    kind = DatasetType(dataset_type, ("htm7",), "SimpleCatalog", universe=butler.dimensions)
    butler.registry.registerDatasetType(kind)
    known = {r.dataId["htm7"] for r in butler.query_datasets(kind, run, find_first=False, limit=None, explain=False)}
    files = [
        FileDataset(
            path=str(path),
            refs=DatasetRef(kind, DataCoordinate.standardize(htm7=shard, universe=butler.dimensions), run=run),
        )
        for shard, path in shards.items()
        if shard not in known
    ]
    if files:
        butler.ingest(*files, transfer="direct", record_validation_info=False)
    return len(files)
