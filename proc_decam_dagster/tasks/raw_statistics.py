"""`RawStatisticsTask`: health of every raw frame (``cpBiasIsr`` of zeros, ``isrForCrosstalkSources`` of the others)."""

from collections.abc import Iterable

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table, vstack
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.crosstalk import BRIGHT, BrightPixels, bright_pixels
from proc_decam_dagster.pixels.raw_statistics import raw_statistics
from proc_decam_dagster.survey.datasets import CROSSTALK_SOURCES, RAW, RAW_STATISTICS
from proc_decam_dagster.tasks.raw import amplifiers, detector_id, exposure_id


class RawStatisticsConnections(
    pipe_base.PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")
):  # fmt: skip
    """Raw frame in; its statistics and, of science frames, its bright pixels out."""

    raw = connectionTypes.Input(
        name=RAW, doc="Raw frame.", storageClass="DecamRaw", dimensions=("instrument", "exposure", "detector")
    )
    statistics = connectionTypes.Output(
        name=RAW_STATISTICS,
        doc="Levels, noise, saturation and health of each amplifier.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
    )
    sources = connectionTypes.Output(
        name=CROSSTALK_SOURCES,
        doc="Bright pixels, whose leaks other detectors take off.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "exposure", "detector"),
    )

    def __init__(self, *, config=None):
        if not config.doCrosstalkSources:
            del self.sources


class RawStatisticsConfig(pipe_base.PipelineTaskConfig, pipelineConnections=RawStatisticsConnections):
    """Whether bright pixels are listed: in a flat, all are, and their leaks are part of its shape."""

    doCrosstalkSources = Field[bool](doc="List the bright pixels?", default=False)
    crosstalkThreshold = Field[float](doc="Signal of a bright pixel, ADU above bias.", default=BRIGHT)


class RawStatisticsTask(pipe_base.PipelineTask):
    """Measure overscan, noise, signal and saturation of a raw frame."""

    ConfigClass = RawStatisticsConfig
    _DefaultName = "rawStatistics"

    def run(self, raw) -> pipe_base.Struct:
        """Return ``statistics`` (``exposure``, ``detector`` and, by name, ``amplifiers``) and, if asked, ``sources``.

        Parameters
        ----------
        raw : `proc_decam_dagster.instrument.raw.RawImage`
        """
        parts, overscans = amplifiers(raw)
        outputs = pipe_base.Struct(
            statistics={
                "exposure": exposure_id(raw),
                "detector": detector_id(raw),
                "amplifiers": raw_statistics(raw.data, parts, overscans),
            }
        )
        if self.config.doCrosstalkSources:
            found = {
                (detector_id(raw), readout.name): bright_pixels(
                    raw.data, readout, overscan, self.config.crosstalkThreshold
                )
                for readout, overscan in zip(parts, overscans)
            }
            outputs.sources = table_of(found)
        return outputs


COLUMNS = {"detector": np.int32, "amplifier": "U1", "row": np.int16, "column": np.int16, "signal": np.float32,
           "saturated": np.bool_}  # fmt: skip


def table_of(bright: dict[tuple[int, str], BrightPixels]) -> Table:
    """Return bright pixels as the ``crosstalkSources`` dataset.

    Each amplifier has a row of no signal as well, which says that it was looked at: Parquet keeps no metadata.
    """
    tables = []
    for (detector, amplifier), pixels in bright.items():
        values = [pixels.row, pixels.column, pixels.signal, pixels.saturated]
        values = [detector, amplifier, *(np.concatenate([[0], v]) for v in values)]
        count = len(pixels.signal) + 1
        tables.append(Table({name: np.full(count, v).astype(kind) for (name, kind), v in zip(COLUMNS.items(), values)}))
    return vstack(tables, metadata_conflicts="silent")


def bright_pixels_of(tables: Iterable[Table]) -> dict[tuple[int, str], BrightPixels]:
    """Return the bright pixels that `table_of` wrote, by detector and amplifier; also of those that have none."""
    found = {}
    for table in tables:
        detectors, names = np.asarray(table["detector"]), np.asarray(table["amplifier"]).astype(str)
        for detector, amplifier in sorted(set(zip(detectors.tolist(), names.tolist()))):
            part = table[(detectors == detector) & (names == amplifier) & (np.asarray(table["signal"]) > 0)]
            found[detector, amplifier] = BrightPixels(
                *(np.asarray(part[name], COLUMNS[name]) for name in ("row", "column", "signal", "saturated"))
            )
    return found
