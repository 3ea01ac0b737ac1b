"""`ApplySuspectMaskTask`: the survey's suspect pixels on exposures of the Science Pipelines.

The one task of ours in the pipelines of the engine science-pipelines. It calls the stack's own classes by what it is
handed, and imports none of them.
"""

from typing import Any

import lsst.pipe.base as pipe_base
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.survey import datasets

_DIMENSIONS = ("instrument", "exposure", "detector")


class ApplySuspectMaskConnections(pipe_base.PipelineTaskConnections, dimensions=_DIMENSIONS):
    """Detrended exposure and its detector's suspect pixels in; the exposure with these marked out."""

    suspect = connectionTypes.PrerequisiteInput(
        name=datasets.SUSPECT_MASK,
        doc="Suspect pixels.",
        storageClass="Defects",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    exposure = connectionTypes.Input(
        name=datasets.POST_ISR, doc="Detrended exposure.", storageClass="Exposure", dimensions=_DIMENSIONS
    )
    masked = connectionTypes.Output(
        name=datasets.POST_ISR_MASKED,
        doc="The exposure with its suspect pixels marked.",
        storageClass="Exposure",
        dimensions=_DIMENSIONS,
    )


class ApplySuspectMaskConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ApplySuspectMaskConnections):
    """Which mask plane the pixels are marked in."""

    mask_plane = Field[str](doc="Name of the mask plane.", default="SUSPECT")


class ApplySuspectMaskTask(pipe_base.PipelineTask):
    """Mark the survey's suspect pixels in an exposure's mask."""

    ConfigClass = ApplySuspectMaskConfig
    _DefaultName = "applySuspectMask"

    def run(self, suspect: Any, exposure: Any) -> pipe_base.Struct:
        """Return ``masked``: the exposure, changed in place.

        Parameters
        ----------
        suspect : `lsst.ip.isr.Defects`
            Boxes of suspect pixels.
        exposure : `lsst.afw.image.Exposure`
            Trimmed, so that its pixels are those of the boxes.
        """
        suspect.maskPixels(exposure.maskedImage, self.config.mask_plane)
        return pipe_base.Struct(masked=exposure)
