"""Forced photometry on differences: at the DIA sources of a detector, and at every DIA object that it covers."""

from collections.abc import Iterable

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table, hstack, vstack
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.forced import forced_differences, forced_fluxes, positions_on
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME

DETECTOR = ("instrument", "visit", "detector")
NAMES = {"coadd": COADD_NAME, "injected": ""}
KEPT = ("diaSourceId", "visit", "detector", "band", "midpoint_mjd", "ra", "dec", "x", "y")


class ForcedPhotDiffimConnections(pipe_base.PipelineTaskConnections, dimensions=DETECTOR, defaultTemplates=NAMES):
    """DIA sources, difference, exposure and template in; fluxes out."""

    sources = connectionTypes.Input(
        name="{injected}" + datasets.DIA_SOURCE_TABLE,
        doc="Positions.",
        storageClass="ArrowAstropy",
        dimensions=DETECTOR,
    )
    difference = connectionTypes.Input(
        name="{injected}" + datasets.DIFFERENCE, doc="Difference.", storageClass="DecamImage", dimensions=DETECTOR
    )
    science = connectionTypes.Input(
        name="{injected}" + datasets.CALEXP, doc="Exposure.", storageClass="DecamImage", dimensions=DETECTOR
    )
    template = connectionTypes.Input(
        name=datasets.TEMPLATE, doc="Template.", storageClass="DecamImage", dimensions=DETECTOR
    )
    forced = connectionTypes.Output(
        name="{injected}" + datasets.FORCED_ON_DIFFERENCE,
        doc="Fluxes on difference, exposure and template.",
        storageClass="ArrowAstropy",
        dimensions=DETECTOR,
    )


class ForcedPhotDiffimConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ForcedPhotDiffimConnections):
    """Nothing to configure."""


class ForcedPhotDiffimTask(pipe_base.PipelineTask):
    """Measure PSF fluxes at the DIA sources of a detector."""

    ConfigClass = ForcedPhotDiffimConfig
    _DefaultName = "forcedPhotDiffim"

    def run(
        self, sources: Table, difference: MaskedImage, science: MaskedImage, template: MaskedImage
    ) -> pipe_base.Struct:
        """Return ``forced``: one row a DIA source, fluxes in nJy prefixed ``diff_``, ``science_`` and ``template_``.

        Parameters
        ----------
        sources : `astropy.table.Table`
        difference, science, template : `MaskedImage`
            On the same pixels.
        """
        x, y = np.asarray(sources["x"], float), np.asarray(sources["y"], float)
        parts = [
            sources[[name for name in KEPT if name in sources.colnames]],
            forced_differences(difference, x, y, "diff_"),
            forced_fluxes(science, x, y, "science_"),
            forced_fluxes(template, x, y, "template_"),
        ]
        return pipe_base.Struct(forced=hstack(parts, metadata_conflicts="silent"))


class ForcedPhotDiaObjectsConnections(pipe_base.PipelineTaskConnections, dimensions=DETECTOR, defaultTemplates=NAMES):
    """DIA objects and difference in; fluxes out."""

    objects = connectionTypes.Input(
        name="{injected}" + datasets.DIA_OBJECTS_CALCULATED,
        doc="DIA objects of the tracts that the detector overlaps.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "skymap", "tract"),
        multiple=True,
    )
    difference = connectionTypes.Input(
        name="{injected}" + datasets.DIFFERENCE, doc="Difference.", storageClass="DecamImage", dimensions=DETECTOR
    )
    forced = connectionTypes.Output(
        name="{injected}" + datasets.FORCED_ON_DIA_OBJECT,
        doc="Fluxes on the difference at every DIA object.",
        storageClass="ArrowAstropy",
        dimensions=DETECTOR,
    )


class ForcedPhotDiaObjectsConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ForcedPhotDiaObjectsConnections):
    """Nothing to configure."""


class ForcedPhotDiaObjectsTask(pipe_base.PipelineTask):
    """Measure PSF fluxes at every DIA object on a difference, detected there or not."""

    ConfigClass = ForcedPhotDiaObjectsConfig
    _DefaultName = "forcedPhotDiffOnDiaObjects"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read, run, write."""
        data_id = butlerQC.quantum.dataId
        outputs = self.run(
            butlerQC.get(inputRefs.objects), butlerQC.get(inputRefs.difference),
            visit=int(data_id["visit"]), detector=int(data_id["detector"]), band=str(data_id["band"]),
        )  # fmt: skip
        butlerQC.put(outputs, outputRefs)

    def run(
        self, objects: Iterable[Table], difference: MaskedImage, *, visit: int, detector: int, band: str
    ) -> pipe_base.Struct:
        """Return ``forced``: one row a DIA object on the detector.

        Parameters
        ----------
        objects : iterable of `astropy.table.Table`
            ``diaObjectId, ra, dec``; one table a tract.
        difference : `MaskedImage`
        visit, detector : `int`
        band : `str`
        """
        positions = [table["diaObjectId", "ra", "dec"] for table in objects]
        known = vstack(positions, metadata_conflicts="silent")
        x, y, inside = positions_on(difference, known["ra"], known["dec"])
        rows = known[inside]
        count = len(rows)
        rows["visit"] = np.full(count, visit, np.int64)
        rows["detector"] = np.full(count, detector, np.int32)
        rows["band"] = np.full(count, band, "U8")
        rows["midpoint_mjd"] = np.full(count, float(difference.metadata["mjd"]))
        rows["x"], rows["y"] = x[inside], y[inside]
        fluxes = forced_differences(difference, x[inside], y[inside], "diff_")
        return pipe_base.Struct(forced=hstack([rows, fluxes], metadata_conflicts="silent"))
