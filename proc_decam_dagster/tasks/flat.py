"""`FlatCombineTask`: the master flat of a detector in a filter."""

from collections.abc import Mapping, Sequence
from typing import Any

import lsst.pipe.base as pipe_base
import numpy as np
from lsst.pex.config import Field, RangeField
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.combine import GROUP, THRESHOLD, Frame, combine_frames
from proc_decam_dagster.pixels.flat import DEFECT_CONTRAST, flag_defects
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.isr import Master
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.tasks.curated import crosstalk_matrix, linearity_tables
from proc_decam_dagster.tasks.frames import any_time, usable_frames
from proc_decam_dagster.tasks.raw import amplifiers


class FlatCombineConnections(
    pipe_base.PipelineTaskConnections, dimensions=("instrument", "physical_filter", "detector")
):
    """Flat frames, scales and calibrations in, master flat out."""

    raws = connectionTypes.Input(
        name=datasets.RAW,
        doc="Flat frames.",
        storageClass="DecamRaw",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        deferLoad=True,
    )
    statistics = connectionTypes.Input(
        name=datasets.RAW_STATISTICS,
        doc="Health of each frame.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
    )
    scales = connectionTypes.Input(
        name=datasets.FLAT_SCALES,
        doc="Illumination of each exposure.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "physical_filter"),
    )
    # The quantum has no time of its own: without a lookup function the middleware finds no calibration for it.
    bias = connectionTypes.PrerequisiteInput(
        name=datasets.BIAS,
        doc="Master bias.",
        storageClass="DecamImage",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        lookupFunction=any_time,
    )
    crosstalk = connectionTypes.PrerequisiteInput(
        name=datasets.CROSSTALK,
        doc="Crosstalk coefficients.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        lookupFunction=any_time,
    )
    linearizer = connectionTypes.PrerequisiteInput(
        name=datasets.LINEARIZER,
        doc="Non-linearity of the amplifiers; without it signals are taken as proportional to the light.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
        lookupFunction=any_time,
    )
    flat = connectionTypes.Output(
        name=datasets.FLAT,
        doc="Master flat; the mean response of all detectors is 1.",
        storageClass="DecamImage",
        dimensions=("instrument", "physical_filter", "detector"),
        isCalibration=True,
    )


class FlatCombineConfig(pipe_base.PipelineTaskConfig, pipelineConnections=FlatCombineConnections):
    """How flats are combined."""

    minFrames = RangeField[int](doc="Least number of usable frames.", default=5, min=3)
    threshold = Field[float](doc="Standard deviations beyond which a frame's pixel is clipped.", default=THRESHOLD)
    systematic = Field[float](doc="Relative change of a pixel between frames that is not noise.", default=0.002)
    framesInMemory = RangeField[int](doc="Frames held in memory at once.", default=GROUP, min=6)
    defectContrast = Field[float](doc="Relative deviation from which a pixel is BAD.", default=DEFECT_CONTRAST)


class FlatCombineTask(pipe_base.PipelineTask):
    """Combine flat frames, each over its illumination, into a master flat by a clipped weighted mean."""

    ConfigClass = FlatCombineConfig
    _DefaultName = "cpFlatCombine"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read what is small, hand the raws over unread, and put the master."""
        raws = {int(handle.dataId["exposure"]): handle for handle in butlerQC.get(inputRefs.raws)}
        outputs = self.run(
            raws, butlerQC.get(inputRefs.statistics), butlerQC.get(inputRefs.scales), butlerQC.get(inputRefs.bias),
            butlerQC.get(inputRefs.crosstalk),
            butlerQC.get(inputRefs.linearizer) if hasattr(inputRefs, "linearizer") else None,  # a survey may have none
            detector=int(butlerQC.quantum.dataId["detector"]),
            physical_filter=str(butlerQC.quantum.dataId["physical_filter"]),
        )  # fmt: skip
        butlerQC.put(outputs, outputRefs)

    def run(
        self,
        raws: Mapping[int, Any],
        statistics: Sequence[Mapping[str, Any]],
        scales: Mapping[str, Any],
        bias: MaskedImage,
        crosstalk: Mapping[str, Any],
        linearizer: Mapping[str, Any] | None = None,
        *,
        detector: int,
        physical_filter: str,
    ) -> pipe_base.Struct:
        """Return ``flat``: image, variance, pixels that it cannot correct flagged `BAD`, metadata.

        Parameters
        ----------
        raws : mapping [`int`, handle]
            By exposure, objects whose ``get()`` returns a raw frame; read one by one.
        statistics : sequence of mapping
            ``rawStatistics`` of these frames.
        scales : mapping
            ``cpFlatScales`` of the filter.
        bias : `MaskedImage`
        crosstalk : mapping
            The ``crosstalk`` dataset.
        linearizer : mapping, optional
            The ``linearizer`` dataset.
        detector : `int`
        physical_filter : `str`

        Raises
        ------
        TooFewFramesError
            Raised if fewer than ``minFrames`` frames are usable.
        """
        illumination = {int(exposure): float(value) for exposure, value in scales["scales"].items()}
        left_out = {int(exposure): reason for exposure, reason in scales["rejected"].items()}
        for key, reason in scales["rejected_frames"].items():
            exposure, of_detector = map(int, key.split(":"))
            if of_detector == detector:
                left_out[exposure] = reason
        for exposure in raws:
            if exposure not in illumination:
                left_out.setdefault(exposure, "its level was not measured")
        left_out = {exposure: reason for exposure, reason in left_out.items() if exposure in raws}
        good, rejected = usable_frames("flat", detector, raws, statistics, self.config.minFrames, left_out)

        def frames():
            for exposure in good:
                raw = raws[exposure].get()
                yield Frame(raw.data, amplifiers(raw)[1], illumination[exposure])

        readouts, _ = amplifiers(raws[good[0]].get())
        combined = combine_frames(
            frames(), len(good), readouts, scaled=True, group=self.config.framesInMemory, bias=Master.bias(bias),
            crosstalk=crosstalk_matrix(crosstalk), linearity=linearity_tables(linearizer),
            systematic=self.config.systematic, threshold=self.config.threshold,
        )  # fmt: skip
        flat = MaskedImage(combined.mean, combined.variance, np.zeros(combined.mean.shape, np.int32))
        defects = flag_defects(flat, self.config.defectContrast)
        level = float(np.median(flat.image[::8, ::8]))
        flat.metadata = {
            "detector": detector,
            "physical_filter": physical_filter,
            "n_frames": len(good),
            "n_rejected": len(rejected),
            "rejected": "; ".join(f"{exposure}: {reason}" for exposure, reason in sorted(rejected.items())),
            "exposures": ",".join(map(str, good)),
            "level": level,
            "electrons": float(sum(illumination[exposure] for exposure in good)),
            "residual_noise": combined.scatter * float(np.sqrt(np.median(flat.variance[::8, ::8]))) / level
            if level > 0
            else float("nan"),
            "scatter_over_noise": combined.scatter,
            "clipped_fraction": combined.clipped / (combined.mean.size * len(good)),
            "n_defects": defects,
            "linearized": linearizer is not None,
        }
        self.log.info("detector %d, %s: %d flats, %d left out", detector, physical_filter, len(good), len(rejected))
        return pipe_base.Struct(flat=flat)
