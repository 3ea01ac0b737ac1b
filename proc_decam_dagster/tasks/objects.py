"""Objects of the coadds: detected in each band, joined over bands, measured in all of them."""

from collections.abc import Mapping, Sequence

import lsst.pipe.base as pipe_base
from astropy.table import Table, vstack
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.objects import detect_on_coadd, measure_objects
from proc_decam_dagster.pixels.skymap import SkyMap
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME

BAND = ("skymap", "tract", "patch", "band")
PATCH = ("skymap", "tract", "patch")


class CoaddDetectionConnections(
    pipe_base.PipelineTaskConnections, dimensions=BAND, defaultTemplates={"coadd": COADD_NAME}
):
    """Coadd in, its sources out."""

    combined = connectionTypes.Input(name=datasets.COADD, doc="Coadd.", storageClass="DecamImage", dimensions=BAND)
    sources = connectionTypes.Output(
        name=datasets.COADD_SOURCES, doc="Sources of the coadd.", storageClass="ArrowAstropy", dimensions=BAND
    )


class CoaddDetectionConfig(pipe_base.PipelineTaskConfig, pipelineConnections=CoaddDetectionConnections):
    """Detection threshold."""

    threshold = Field[float](doc="Significance of a detection.", default=5.0)


class CoaddDetectionTask(pipe_base.PipelineTask):
    """Detect the sources of a coadd."""

    ConfigClass = CoaddDetectionConfig
    _DefaultName = "detection"

    def run(self, combined: MaskedImage) -> pipe_base.Struct:
        """Return ``sources``, see `detect_on_coadd`."""
        sources = detect_on_coadd(combined, self.config.threshold)
        self.log.info("%d sources", len(sources))
        return pipe_base.Struct(sources=sources)


class MeasureObjectsConnections(
    pipe_base.PipelineTaskConnections, dimensions=PATCH, defaultTemplates={"coadd": COADD_NAME}
):
    """Coadds and sources of all bands in, objects out."""

    coadds = connectionTypes.Input(
        name=datasets.COADD, doc="Coadds.", storageClass="DecamImage", dimensions=BAND, multiple=True, deferLoad=True
    )
    sources = connectionTypes.Input(
        name=datasets.COADD_SOURCES,
        doc="Sources of each coadd.",
        storageClass="ArrowAstropy",
        dimensions=BAND,
        multiple=True,
        deferLoad=True,
    )
    skymap = connectionTypes.Input(
        name=datasets.SKYMAP, doc="Which patch a position belongs to.", storageClass="DecamSkyMap",
        dimensions=("skymap",),
    )  # fmt: skip
    objects = connectionTypes.Output(
        name=datasets.OBJECT_TABLE, doc="Objects of the patch.", storageClass="ArrowAstropy", dimensions=PATCH
    )


class MeasureObjectsConfig(pipe_base.PipelineTaskConfig, pipelineConnections=MeasureObjectsConnections):
    """How sources of bands become objects."""

    radiusArcsec = Field[float](doc="Sources of two bands this near are one object.", default=0.5)


class MeasureObjectsTask(pipe_base.PipelineTask):
    """Join sources over bands and measure them in every band."""

    ConfigClass = MeasureObjectsConfig
    _DefaultName = "measure"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read sources and coadds by band, run, write."""
        sources = {str(h.dataId["band"]): h.get() for h in butlerQC.get(inputRefs.sources)}
        coadds = {str(h.dataId["band"]): h for h in butlerQC.get(inputRefs.coadds)}
        data_id = butlerQC.quantum.dataId
        outputs = self.run(
            sources, coadds, butlerQC.get(inputRefs.skymap),
            tract=int(data_id["tract"]), patch=int(data_id["patch"]),
        )  # fmt: skip
        butlerQC.put(outputs, outputRefs)

    def run(
        self, sources: Mapping[str, Table], coadds: Mapping, skymap: SkyMap, *, tract: int, patch: int
    ) -> pipe_base.Struct:
        """Return ``objects``, see `measure_objects`; ``primary`` ones belong to this patch of this tract.

        Parameters
        ----------
        sources : mapping [`str`, `astropy.table.Table`]
            By band.
        coadds : mapping [`str`, handle]
            By band; read one at a time.
        skymap : `SkyMap`
        tract, patch : `int`
        """
        table = measure_objects(sources, coadds, self.config.radiusArcsec)
        # tract, patch (16 bits) and number (24 bits)
        first = (tract << 40) + (patch << 24) + 1
        table.add_column([first + k for k in range(len(table))], name="objectId", index=0)
        table["tract"], table["patch"] = tract, patch
        table["primary"] = [skymap.home(ra, dec) == (tract, patch) for ra, dec in zip(table["ra"], table["dec"])]
        if not len(table):  # an empty list has no type
            for name, kind in (("objectId", "i8"), ("tract", "i8"), ("patch", "i8"), ("primary", "?")):
                table[name] = table[name].astype(kind)
        return pipe_base.Struct(objects=table)


class ConsolidateObjectTableConnections(pipe_base.PipelineTaskConnections, dimensions=("skymap", "tract")):
    """Objects of the patches in, of the tract out."""

    tables = connectionTypes.Input(
        name=datasets.OBJECT_TABLE, doc="Objects.", storageClass="ArrowAstropy", dimensions=PATCH, multiple=True
    )
    table = connectionTypes.Output(
        name=datasets.OBJECT_TABLE_TRACT,
        doc="Objects of the tract, each once.",
        storageClass="ArrowAstropy",
        dimensions=("skymap", "tract"),
    )


class ConsolidateObjectTableConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ConsolidateObjectTableConnections):
    """Nothing to configure."""


class ConsolidateObjectTableTask(pipe_base.PipelineTask):
    """Join the objects of a tract's patches."""

    ConfigClass = ConsolidateObjectTableConfig
    _DefaultName = "consolidateObjectTable"

    def run(self, tables: Sequence[Table]) -> pipe_base.Struct:
        """Return ``table``: the primary objects of all patches; a band that a patch lacks is masked there."""
        chosen = [t for t in tables if len(t)] or list(tables[:1])
        joined = vstack(chosen, metadata_conflicts="silent")
        joined = joined[joined["primary"]]
        joined.sort("objectId")
        return pipe_base.Struct(table=joined)
