"""`AssembleCoaddTask`: the warps of a patch in one band combined into a coadd, the template of differences."""

from collections.abc import Sequence
from typing import Any

import lsst.pipe.base as pipe_base
import numpy as np
from lsst.pex.config import ChoiceField, Field, RangeField
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels import coadd as algorithm
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME

PATCH = ("skymap", "tract", "patch", "band")
STATISTICS = {
    "mean": "Mean, weighted by the inverse variance of each warp's sky.",
    "meanclip": "The same, after rejecting what only one epoch shows.",
    "median": "Median.",
    "min": "Minimum.",
}


class AssembleCoaddConnections(
    pipe_base.PipelineTaskConnections, dimensions=PATCH, defaultTemplates={"coadd": COADD_NAME, "warpType": "direct"}
):
    """Warps in; coadd and number of inputs out. ``warpType`` is ``direct`` or ``psfMatched``."""

    warps = connectionTypes.Input(
        name=datasets.DIRECT_WARP.replace("direct", "{warpType}"),
        doc="Warps of the patch.",
        storageClass="DecamImage",
        dimensions=("instrument", "skymap", "tract", "patch", "visit"),
        multiple=True,
        deferLoad=True,
    )
    combined = connectionTypes.Output(
        name=datasets.COADD, doc="Coadd, nJy.", storageClass="DecamImage", dimensions=PATCH
    )
    n_image = connectionTypes.Output(
        name=datasets.COADD_NIMAGE, doc="Number of inputs of each pixel.", storageClass="DecamImage", dimensions=PATCH
    )


class AssembleCoaddConfig(pipe_base.PipelineTaskConfig, pipelineConnections=AssembleCoaddConnections):
    """Which statistic, of which warps."""

    statistic = ChoiceField[str](doc="How warps are combined.", allowed=STATISTICS, default="meanclip", optional=False)
    nSigma = RangeField[float](doc="Rejection threshold of meanclip.", default=algorithm.N_SIGMA, min=2.0)
    minInputs = RangeField[int](doc="Fewest warps of a coadd.", default=1, min=1)
    maxSeeingPixels = Field[float](doc="Warps of worse seeing are left out.", default=float("inf"))
    memoryBytes = RangeField[int](doc="Pixels held in memory; more go through a file.", default=algorithm.MEMORY_BYTES,
                                  min=0)  # fmt: skip


class AssembleCoaddTask(pipe_base.PipelineTask):
    """Combine the warps of a patch."""

    ConfigClass = AssembleCoaddConfig
    _DefaultName = "assembleCoadd"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Hand the warps over unread, in the order of the visits, and write the coadd."""
        handles = butlerQC.get(sorted(inputRefs.warps, key=lambda ref: ref.dataId["visit"]))
        data_id = butlerQC.quantum.dataId
        outputs = self.run(handles)
        outputs.combined.metadata |= {
            "tract": int(data_id["tract"]), "patch": int(data_id["patch"]), "band": str(data_id["band"]),
        }  # fmt: skip
        butlerQC.put(outputs, outputRefs)

    def run(self, warps: Sequence[Any]) -> pipe_base.Struct:
        """Return ``combined`` and ``n_image`` (counts in its image).

        Parameters
        ----------
        warps : sequence of handle
            Objects whose ``get()`` returns a `MaskedImage`; read one at a time.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If fewer than ``minInputs`` warps are good enough.
        """
        limit = self.config.maxSeeingPixels
        if np.isfinite(limit):
            warps = [w for w in warps if w.get(component="metadata").get("seeing_fwhm_px", 0) <= limit]
        if len(warps) < self.config.minInputs:
            raise pipe_base.NoWorkFound(f"{len(warps)} usable warps, {self.config.minInputs} are needed")
        first = warps[0].get()
        images = (first if number == 0 else handle.get() for number, handle in enumerate(warps))
        combined, counts = algorithm.coadd(
            images, len(warps), first.shape, statistic=self.config.statistic, n_sigma=self.config.nSigma,
            memory_bytes=self.config.memoryBytes,
        )  # fmt: skip
        n_image = MaskedImage(
            counts.astype(np.float32), np.zeros(counts.shape, np.float32), np.zeros(counts.shape, np.int32),
            combined.wcs, metadata={"content": "number of inputs"},
        )  # fmt: skip
        self.log.info("%s of %d warps, %.4f %% clipped", self.config.statistic, len(warps),
                      100 * combined.metadata["clipped_fraction"])  # fmt: skip
        return pipe_base.Struct(combined=combined, n_image=n_image)
