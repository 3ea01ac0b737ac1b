"""DIA sources of a difference image: detected, put on the sky with identifiers, joined over a visit's detectors."""

from typing import Any

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.dia_sources import detect_dia_sources
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME
from proc_decam_dagster.tasks.calibrate_image import source_ids
from proc_decam_dagster.tasks.consolidate import ConsolidateTableTask

DETECTOR = ("instrument", "visit", "detector")
NAMES = {"coadd": COADD_NAME, "injected": ""}


class DetectDiaSourcesConnections(pipe_base.PipelineTaskConnections, dimensions=DETECTOR, defaultTemplates=NAMES):
    """Difference in, DIA sources out."""

    difference = connectionTypes.Input(
        name="{injected}" + datasets.DIFFERENCE, doc="Difference.", storageClass="DecamImage", dimensions=DETECTOR
    )
    sources = connectionTypes.Output(
        name="{injected}" + datasets.DIA_SOURCES_DETECTED,
        doc="DIA sources in pixels, nJy.",
        storageClass="ArrowAstropy",
        dimensions=DETECTOR,
    )


class DetectDiaSourcesConfig(pipe_base.PipelineTaskConfig, pipelineConnections=DetectDiaSourcesConnections):
    """Detection threshold."""

    threshold = Field[float](doc="Significance of a detection.", default=5.0, check=lambda value: value > 0)


class DetectDiaSourcesTask(pipe_base.PipelineTask):
    """Detect and measure DIA sources."""

    ConfigClass = DetectDiaSourcesConfig
    _DefaultName = "detectAndMeasureDiaSources"

    def run(self, difference: MaskedImage) -> pipe_base.Struct:
        """Return ``sources``, see `detect_dia_sources`.

        Parameters
        ----------
        difference : `MaskedImage`
        """
        sources = detect_dia_sources(difference, self.config.threshold)
        self.log.info(
            "%d DIA sources (%d negative, %d dipoles, %d of reliability above one half), noise %.3f",
            len(sources), np.sum(sources["negative"]), np.sum(sources["dipole"]),
            np.sum(sources["reliability"] > 0.5), sources.meta["noise_scale"],
        )  # fmt: skip
        return pipe_base.Struct(sources=sources)


class TransformDiaSourcesConnections(pipe_base.PipelineTaskConnections, dimensions=DETECTOR, defaultTemplates=NAMES):
    """DIA sources in pixels in, on the sky out."""

    sources = connectionTypes.Input(
        name="{injected}" + datasets.DIA_SOURCES_DETECTED,
        doc="DIA sources in pixels.",
        storageClass="ArrowAstropy",
        dimensions=DETECTOR,
    )
    difference = connectionTypes.Input(
        name="{injected}" + datasets.DIFFERENCE,
        doc="Gives WCS and date: pixels are not read.",
        storageClass="DecamImage",
        dimensions=DETECTOR,
        deferLoad=True,
    )
    table = connectionTypes.Output(
        name="{injected}" + datasets.DIA_SOURCE_TABLE,
        doc="DIA sources with identifiers, sky positions and dates.",
        storageClass="ArrowAstropy",
        dimensions=DETECTOR,
    )


class TransformDiaSourcesConfig(pipe_base.PipelineTaskConfig, pipelineConnections=TransformDiaSourcesConnections):
    """Nothing to configure."""


class TransformDiaSourcesTask(pipe_base.PipelineTask):
    """Add identifiers, sky positions and dates to DIA sources."""

    ConfigClass = TransformDiaSourcesConfig
    _DefaultName = "transformDiaSourceCat"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the table and what is known of the difference."""
        difference = butlerQC.get(inputRefs.difference)
        data_id = butlerQC.quantum.dataId
        outputs = self.run(
            butlerQC.get(inputRefs.sources), difference.get(component="wcs"), difference.get(component="metadata"),
            visit=int(data_id["visit"]), detector=int(data_id["detector"]), band=str(data_id["band"]),
        )  # fmt: skip
        butlerQC.put(outputs, outputRefs)

    def run(
        self, sources: Table, wcs: Any, metadata: dict[str, Any], *, visit: int, detector: int, band: str
    ) -> pipe_base.Struct:
        """Return ``table``: ``diaSourceId, visit, detector, band, midpoint_mjd, ra, dec`` before the measurements.

        Parameters
        ----------
        sources : `astropy.table.Table`
        wcs : `astropy.wcs.WCS`
        metadata : `dict`
            Of the difference; ``mjd`` is the middle of the exposure.
        visit, detector : `int`
        band : `str`
        """
        count = len(sources)
        ra, dec = wcs.all_pix2world(sources["x"], sources["y"], 0) if count else (np.zeros(0), np.zeros(0))
        table = Table({
            "diaSourceId": source_ids(visit, detector, count),
            "visit": np.full(count, visit, np.int64),
            "detector": np.full(count, detector, np.int32),
            "band": np.full(count, band, "U8"),
            "midpoint_mjd": np.full(count, float(metadata["mjd"])),
            "ra": np.asarray(ra, float),
            "dec": np.asarray(dec, float),
        })  # fmt: skip
        for name in sources.colnames:
            table[name] = sources[name]
        return pipe_base.Struct(table=table)


class ConsolidateDiaSourcesConnections(
    pipe_base.PipelineTaskConnections, dimensions=("instrument", "visit"), defaultTemplates=NAMES
):
    """DIA sources of detectors in, of the visit out."""

    tables = connectionTypes.Input(
        name="{injected}" + datasets.DIA_SOURCE_TABLE,
        doc="DIA sources of the detectors.",
        storageClass="ArrowAstropy",
        dimensions=DETECTOR,
        multiple=True,
    )
    table = connectionTypes.Output(
        name="{injected}" + datasets.DIA_SOURCE_TABLE_VISIT,
        doc="All of them, in the order of the detectors.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )


class ConsolidateDiaSourcesConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ConsolidateDiaSourcesConnections):
    """Nothing to configure."""


class ConsolidateDiaSourcesTask(ConsolidateTableTask):
    """Join the DIA sources of a visit's detectors."""

    ConfigClass = ConsolidateDiaSourcesConfig
    _DefaultName = "consolidateDiaSourceTable"
