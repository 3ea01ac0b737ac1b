"""Catalogues of synthetic sources by htm7 trixel and band."""

import logging

import numpy as np

from lsst.daf.butler import CollectionType, DatasetType
from lsst.sphgeom import HtmPixelization, LonLat, UnitVector3d


def ingest_injection_catalog(
    writeable_butler, table, band, output_collection, dataset_type_name="injection_catalog", log_level=logging.INFO
):
    """Put a table, divided by trixel."""
    kind = DatasetType(dataset_type_name, ("htm7", "band"), "ArrowAstropy", universe=writeable_butler.dimensions)
    writeable_butler.registry.registerDatasetType(kind)
    writeable_butler.registry.registerCollection(output_collection, type=CollectionType.RUN)
    htm = HtmPixelization(7)
    trixels = np.array(
        [htm.index(UnitVector3d(LonLat.fromDegrees(ra, dec))) for ra, dec in table.iterrows("ra", "dec")]
    )
    return [
        writeable_butler.put(table[trixels == t], kind, {"htm7": int(t), "band": band}, run=output_collection)
        for t in sorted(set(trixels))
    ]
