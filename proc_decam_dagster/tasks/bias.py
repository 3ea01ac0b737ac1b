"""`BiasCombineTask`: the master bias of a detector."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lsst.pipe.base as pipe_base
import numpy as np
from lsst.pex.config import Field, RangeField
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.combine import GROUP, THRESHOLD, Frame, combine_frames
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.survey.datasets import BIAS, RAW, RAW_STATISTICS
from proc_decam_dagster.tasks.frames import usable_frames
from proc_decam_dagster.tasks.raw import amplifiers, detector_id


class BiasCombineConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "detector")):
    """Zeros and their statistics in, master bias out."""

    raws = connectionTypes.Input(
        name=RAW,
        doc="Zeros.",
        storageClass="DecamRaw",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        deferLoad=True,
    )
    statistics = connectionTypes.Input(
        name=RAW_STATISTICS,
        doc="Health of each frame.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
    )
    bias = connectionTypes.Output(
        name=BIAS,
        doc="Master bias, ADU above overscan.",
        storageClass="DecamImage",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )


class BiasCombineConfig(pipe_base.PipelineTaskConfig, pipelineConnections=BiasCombineConnections):
    """How zeros are combined."""

    minFrames = RangeField[int](doc="Least number of usable frames.", default=5, min=3)
    threshold = Field[float](doc="Standard deviations beyond which a frame's pixel is clipped.", default=THRESHOLD)
    framesInMemory = RangeField[int](doc="Frames held in memory at once.", default=GROUP, min=6)


class BiasCombineTask(pipe_base.PipelineTask):
    """Combine zeros into a master bias by a clipped mean."""

    ConfigClass = BiasCombineConfig
    _DefaultName = "cpBiasCombine"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read statistics, hand the raws over unread, and put the master."""
        raws = {int(handle.dataId["exposure"]): handle for handle in butlerQC.get(inputRefs.raws)}
        outputs = self.run(
            raws, butlerQC.get(inputRefs.statistics), detector=int(butlerQC.quantum.dataId["detector"])
        )  # fmt: skip
        butlerQC.put(outputs, outputRefs)

    def run(
        self, raws: Mapping[int, Any], statistics: Sequence[Mapping[str, Any]], *, detector: int
    ) -> pipe_base.Struct:
        """Return ``bias``: image and variance in ADU, metadata with the frames and their noise.

        Parameters
        ----------
        raws : mapping [`int`, handle]
            By exposure, objects whose ``get()`` returns a raw frame; read one by one.
        statistics : sequence of mapping
            ``rawStatistics`` of these frames.
        detector : `int`

        Raises
        ------
        TooFewFramesError
            Raised if fewer than ``minFrames`` frames are usable.
        """
        good, rejected = usable_frames("bias", detector, raws, statistics, self.config.minFrames)
        first = raws[good[0]].get()
        readouts, _ = amplifiers(first)
        if detector_id(first) != detector:
            raise ValueError(f"raws are of detector {detector_id(first)}, the quantum is of {detector}")
        combined = combine_frames(
            _frames(raws, good, first), len(good), readouts,
            group=self.config.framesInMemory, threshold=self.config.threshold,
        )  # fmt: skip
        bias = MaskedImage(
            combined.mean, combined.variance, np.zeros(combined.mean.shape, np.int32),
            metadata={
                "detector": detector,
                "n_frames": len(good),
                "n_rejected": len(rejected),
                "rejected": "; ".join(f"{exposure}: {reason}" for exposure, reason in sorted(rejected.items())),
                "exposures": ",".join(map(str, good)),
                "level": float(np.median(combined.mean[::8, ::8])),
                "residual_noise": combined.scatter * float(np.sqrt(np.median(combined.variance[::8, ::8]))),
                "scatter_over_noise": combined.scatter,
                "clipped_fraction": combined.clipped / (combined.mean.size * len(good)),
                "unit": "adu",
            },
        )  # fmt: skip
        self.log.info("detector %d: %d zeros, %d left out", detector, len(good), len(rejected))
        return pipe_base.Struct(bias=bias)


def _frames(raws: Mapping[int, Any], exposures: Sequence[int], first: Any) -> Iterator[Frame]:
    """Read frames one by one; the first is at hand."""
    for exposure in exposures:
        raw = first if exposure == exposures[0] else raws[exposure].get()
        first = None
        yield Frame(raw.data, amplifiers(raw)[1])
