"""`RawStatisticsTask`: health of every raw frame (``cpBiasIsr`` of zeros, ``isrForCrosstalkSources`` of the others)."""

import lsst.pipe.base as pipe_base
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.raw_statistics import raw_statistics
from proc_decam_dagster.survey.datasets import RAW, RAW_STATISTICS
from proc_decam_dagster.tasks.raw import amplifiers, detector_id, exposure_id


class RawStatisticsConnections(
    pipe_base.PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")
):  # fmt: skip
    """Raw frame in, its statistics out."""

    raw = connectionTypes.Input(
        name=RAW, doc="Raw frame.", storageClass="DecamRaw", dimensions=("instrument", "exposure", "detector")
    )
    statistics = connectionTypes.Output(
        name=RAW_STATISTICS,
        doc="Levels, noise, saturation and health of each amplifier.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
    )


class RawStatisticsConfig(pipe_base.PipelineTaskConfig, pipelineConnections=RawStatisticsConnections):
    """Nothing to configure."""


class RawStatisticsTask(pipe_base.PipelineTask):
    """Measure overscan, noise, signal and saturation of a raw frame."""

    ConfigClass = RawStatisticsConfig
    _DefaultName = "rawStatistics"

    def run(self, raw) -> pipe_base.Struct:
        """Return ``statistics``: ``exposure``, ``detector`` and, by name, ``amplifiers``.

        Parameters
        ----------
        raw : `proc_decam_dagster.instrument.raw.RawImage`
        """
        parts, overscans = amplifiers(raw)
        return pipe_base.Struct(
            statistics={
                "exposure": exposure_id(raw),
                "detector": detector_id(raw),
                "amplifiers": raw_statistics(raw.data, parts, overscans),
            }
        )
