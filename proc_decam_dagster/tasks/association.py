"""DIA objects and tracklets of a tract: DIA sources joined over visits, and statistics of their light curves."""

from collections.abc import Sequence

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table, vstack
from lsst.pex.config import Field, RangeField
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.association import RADIUS_ARCSEC, associate, light_curve_statistics, object_table
from proc_decam_dagster.pixels.skymap import SkyMap, belongs_to
from proc_decam_dagster.pixels.tracklets import TrackletSettings, link_tracklets
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME

TRACT = ("instrument", "skymap", "tract")
NAMES = {"coadd": COADD_NAME, "injected": ""}


class DrpAssociationConnections(pipe_base.PipelineTaskConnections, dimensions=TRACT, defaultTemplates=NAMES):
    """DIA sources of many visits in; the same with their objects, and the objects, out."""

    sources = connectionTypes.Input(
        name="{injected}" + datasets.DIA_SOURCE_TABLE,
        doc="DIA sources of the detectors that overlap the tract.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    skymap = connectionTypes.Input(
        name=datasets.SKYMAP, doc="Which tract a position belongs to.", storageClass="DecamSkyMap",
        dimensions=("skymap",),
    )  # fmt: skip
    associated = connectionTypes.Output(
        name="{injected}" + datasets.DIA_SOURCE_ASSOCIATED,
        doc="DIA sources of the tract with `diaObjectId` and `trackletId`.",
        storageClass="ArrowAstropy",
        dimensions=TRACT,
    )
    objects = connectionTypes.Output(
        name="{injected}" + datasets.DIA_OBJECTS, doc="DIA objects.", storageClass="ArrowAstropy", dimensions=TRACT
    )
    tracklets = connectionTypes.Output(
        name="{injected}" + datasets.TRACKLETS,
        doc="What moved within a night: places, rates.",
        storageClass="ArrowAstropy",
        dimensions=TRACT,
    )


class DrpAssociationConfig(pipe_base.PipelineTaskConfig, pipelineConnections=DrpAssociationConnections):
    """How near, and which sources."""

    radiusArcsec = RangeField[float](doc="Largest distance from the object.", default=RADIUS_ARCSEC, min=0.1)
    minReliability = Field[float](doc="Sources of less reliability found no object.", default=0.0)
    trackletMinReliability = Field[float](doc="Sources of less reliability are not linked.", default=0.3)
    trackletMinDetections = RangeField[int](
        doc="Fewest detections of a tracklet.", default=TrackletSettings.min_detections, min=3
    )
    trackletMaxRate = RangeField[float](doc="Fastest, arcsec/h.", default=TrackletSettings.max_rate, min=1.0)
    trackletMinRate = RangeField[float](doc="Slowest, arcsec/h.", default=TrackletSettings.min_rate, min=0.1)
    trackletTolerance = RangeField[float](doc="From the line, arcsec.", default=TrackletSettings.tolerance, min=0.05)

    def tracklet_settings(self) -> TrackletSettings:
        """Return the configuration of the linking as the algorithm takes it."""
        return TrackletSettings(
            min_detections=self.trackletMinDetections,
            max_rate=self.trackletMaxRate,
            min_rate=self.trackletMinRate,
            tolerance=self.trackletTolerance,
        )


class DrpAssociationTask(pipe_base.PipelineTask):
    """Join DIA sources over visits."""

    ConfigClass = DrpAssociationConfig
    _DefaultName = "drpAssociation"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the tables in the order of visits and detectors, run, write."""
        refs = sorted(inputRefs.sources, key=lambda ref: (ref.dataId["visit"], ref.dataId["detector"]))
        tables = [handle.get() for handle in butlerQC.get(refs)]
        tract = int(butlerQC.quantum.dataId["tract"])
        butlerQC.put(self.run(tables, butlerQC.get(inputRefs.skymap), tract=tract), outputRefs)

    def run(self, sources: Sequence[Table], skymap: SkyMap, *, tract: int) -> pipe_base.Struct:
        """Return ``associated``, ``objects`` and ``tracklets``.

        Parameters
        ----------
        sources : sequence of `astropy.table.Table`
        skymap : `SkyMap`
        tract : `int`
            Sources that belong to another tract are left to it.
        """
        table = vstack([t for t in sources if len(t)] or [sources[0]], metadata_conflicts="silent")
        table = table[belongs_to(skymap, tract, table["ra"], table["dec"])]
        table = table[np.asarray(table["reliability"], float) >= self.config.minReliability]
        numbers = associate(
            table["ra"], table["dec"], np.asarray(table["snr"], float), np.asarray(table["visit"]),
            self.config.radiusArcsec,
        )  # fmt: skip
        objects = object_table(table, numbers)
        identifiers = np.asarray(objects["diaObjectId"], np.int64)
        table.add_column(identifiers[numbers] if len(table) else np.zeros(0, np.int64), name="diaObjectId", index=1)
        likely = np.flatnonzero(np.asarray(table["reliability"], float) >= self.config.trackletMinReliability)
        tracklets, members = link_tracklets(table[likely], self.config.tracklet_settings())
        table.add_column(np.zeros(len(table), np.int64), name="trackletId", index=2)
        table["trackletId"][likely] = members
        self.log.info("tract %d: %d DIA sources are %d objects, and %d of them are %d tracklets",
                      tract, len(table), len(objects), np.count_nonzero(members), len(tracklets))  # fmt: skip
        return pipe_base.Struct(associated=table, objects=objects, tracklets=tracklets)


class DrpDiaCalculationConnections(pipe_base.PipelineTaskConnections, dimensions=TRACT, defaultTemplates=NAMES):
    """DIA objects and their sources in; objects with statistics out."""

    associated = connectionTypes.Input(
        name="{injected}" + datasets.DIA_SOURCE_ASSOCIATED,
        doc="DIA sources with `diaObjectId`.",
        storageClass="ArrowAstropy",
        dimensions=TRACT,
    )
    objects = connectionTypes.Input(
        name="{injected}" + datasets.DIA_OBJECTS, doc="DIA objects.", storageClass="ArrowAstropy", dimensions=TRACT
    )
    table = connectionTypes.Output(
        name="{injected}" + datasets.DIA_OBJECTS_CALCULATED,
        doc="DIA objects with statistics of their light curves.",
        storageClass="ArrowAstropy",
        dimensions=TRACT,
    )


class DrpDiaCalculationConfig(pipe_base.PipelineTaskConfig, pipelineConnections=DrpDiaCalculationConnections):
    """Nothing to configure."""


class DrpDiaCalculationTask(pipe_base.PipelineTask):
    """Compute the statistics of DIA objects' light curves."""

    ConfigClass = DrpDiaCalculationConfig
    _DefaultName = "drpDiaCalculation"

    def run(self, associated: Table, objects: Table) -> pipe_base.Struct:
        """Return ``table``, see `light_curve_statistics`.

        Parameters
        ----------
        associated, objects : `astropy.table.Table`
        """
        return pipe_base.Struct(table=light_curve_statistics(objects, associated))
