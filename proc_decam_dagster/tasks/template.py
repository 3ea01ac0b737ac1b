"""`GetTemplateTask`: the coadds under a detector resampled onto the pixels of its exposure."""

from collections.abc import Sequence
from typing import Any

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.wcs import WCS
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME

DETECTOR = ("instrument", "visit", "detector")


class GetTemplateConnections(
    pipe_base.PipelineTaskConnections, dimensions=DETECTOR, defaultTemplates={"coadd": COADD_NAME}
):
    """Exposure (for its pixels) and coadds in, template out."""

    exposure = connectionTypes.Input(
        name=datasets.CALEXP,
        doc="Gives the pixels: only WCS and shape are read.",
        storageClass="DecamImage",
        dimensions=DETECTOR,
        deferLoad=True,
    )
    coadds = connectionTypes.Input(
        name=datasets.COADD,
        doc="Coadds of the exposure's band that overlap it.",
        storageClass="DecamImage",
        dimensions=("skymap", "tract", "patch", "band"),
        multiple=True,
        deferLoad=True,
    )
    template = connectionTypes.Output(
        name=datasets.TEMPLATE, doc="Template, nJy.", storageClass="DecamImage", dimensions=DETECTOR
    )


class GetTemplateConfig(pipe_base.PipelineTaskConfig, pipelineConnections=GetTemplateConnections):
    """How little of a detector is still worth a difference."""

    minCoverage = Field[float](doc="Least fraction of the detector with a template.", default=0.1)


class GetTemplateTask(pipe_base.PipelineTask):
    """Warp the coadds under a detector onto its pixels."""

    ConfigClass = GetTemplateConfig
    _DefaultName = "getTemplate"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read WCS and shape of the exposure, hand the coadds over unread, write the template."""
        exposure = butlerQC.get(inputRefs.exposure)
        refs = sorted(inputRefs.coadds, key=lambda ref: (ref.dataId["tract"], ref.dataId["patch"]))
        shape = exposure.get(component="mask").shape
        butlerQC.put(self.run(exposure.get(component="wcs"), shape, butlerQC.get(refs)), outputRefs)

    def run(self, wcs: WCS, shape: tuple[int, int], coadds: Sequence[Any]) -> pipe_base.Struct:
        """Return ``template``.

        Parameters
        ----------
        wcs, shape
            Pixels of the exposure.
        coadds : sequence of handle
            Objects whose ``get()`` returns a coadd; read one at a time.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If the coadds cover less than ``minCoverage``.
        """
        inputs: list[dict[str, Any]] = []

        def read():
            for handle in coadds:
                coadd = handle.get()
                inputs.append(coadd.metadata)
                yield coadd

        # what a coadd lacks is not invented: no repair
        image = warp(read(), wcs, shape, repair=False)
        coverage = float(np.isfinite(image.image).mean())
        if image.psf is None or coverage < self.config.minCoverage:
            raise pipe_base.NoWorkFound(f"{len(inputs)} coadds cover {coverage:.1%} of the detector")
        visits = sorted({v for m in inputs for v in str(m.get("visits", "")).split(",") if v}, key=int)
        image.metadata = {
            "visits": ",".join(visits), "n_coadds": image.metadata["n_sources"], "coverage": coverage,
            "statistic": str(inputs[0].get("statistic", "")),
        }  # fmt: skip
        self.log.info("template of %d coadds covers %.1f %% of the detector", len(inputs), 100 * coverage)
        return pipe_base.Struct(template=image)
