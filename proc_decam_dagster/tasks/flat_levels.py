"""Levels of flat frames: `FlatIsrTask` and `FlatMeasureTask` for each frame, `FlatNormalizeTask` over all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import lsst.pipe.base as pipe_base
import numpy as np
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.flat import fit_illumination, tile_levels
from proc_decam_dagster.pixels.isr import Master, correct
from proc_decam_dagster.pixels.mask import SAT, SUSPECT, fraction
from proc_decam_dagster.pixels.raw_statistics import dead_amplifiers
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.tasks.curated import crosstalk_matrix, linearity_tables
from proc_decam_dagster.tasks.raw import amplifiers, describe

FRAME = ("instrument", "exposure", "detector")


class FlatIsrConnections(pipe_base.PipelineTaskConnections, dimensions=FRAME):
    """Flat frame and calibrations in, its levels out."""

    raw = connectionTypes.Input(name=datasets.RAW, doc="Flat frame.", storageClass="DecamRaw", dimensions=FRAME)
    statistics = connectionTypes.Input(
        name=datasets.RAW_STATISTICS, doc="Health of the frame.", storageClass="StructuredDataDict", dimensions=FRAME
    )
    bias = connectionTypes.PrerequisiteInput(
        name=datasets.BIAS,
        doc="Master bias.",
        storageClass="DecamImage",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    crosstalk = connectionTypes.PrerequisiteInput(
        name=datasets.CROSSTALK,
        doc="Crosstalk coefficients.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    linearizer = connectionTypes.PrerequisiteInput(
        name=datasets.LINEARIZER,
        doc="Non-linearity of the amplifiers; without it signals are taken as proportional to the light.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
    )
    levels = connectionTypes.Output(
        name=datasets.FLAT_ISR_STATISTICS,
        doc="Levels of the corrected frame on a grid of tiles.",
        storageClass="StructuredDataDict",
        dimensions=FRAME,
    )


class FlatIsrConfig(pipe_base.PipelineTaskConfig, pipelineConnections=FlatIsrConnections):
    """Nothing to configure."""


class FlatIsrTask(pipe_base.PipelineTask):
    """Correct a flat frame and measure its level in tiles.

    The corrected frame itself is not written: reading the raw again, when frames are combined, is cheaper than writing
    and reading a copy twice its size.
    """

    ConfigClass = FlatIsrConfig
    _DefaultName = "cpFlatIsr"

    def run(self, raw, statistics, bias, crosstalk, linearizer=None) -> pipe_base.Struct:
        """Return ``levels``: identifiers, ``tiles`` (electrons, rows of columns) and the fractions of bad pixels.

        Parameters
        ----------
        raw : `proc_decam_dagster.instrument.raw.RawImage`
        statistics : mapping
            ``rawStatistics`` of the frame.
        bias : `proc_decam_dagster.pixels.image.MaskedImage`
        crosstalk : mapping
            The ``crosstalk`` dataset.
        linearizer : mapping, optional
            The ``linearizer`` dataset.
        """
        readouts, overscans = amplifiers(raw)
        image = correct(
            raw.data, readouts, bias=Master.bias(bias), crosstalk=crosstalk_matrix(crosstalk), overscans=overscans,
            linearity=linearity_tables(linearizer), dead=dead_amplifiers(statistics["amplifiers"]),
        )  # fmt: skip
        tiles = tile_levels(image)
        names = describe(raw)
        return pipe_base.Struct(
            levels={
                **{key: names[key] for key in ("exposure", "detector", "physical_filter", "band", "exptime", "mjd")},
                "tiles": [[float(level) if np.isfinite(level) else None for level in row] for row in tiles],
                "saturated_fraction": fraction(image.mask, SAT),
                "suspect_fraction": fraction(image.mask, SUSPECT),
            }
        )


class FlatMeasureConnections(pipe_base.PipelineTaskConnections, dimensions=FRAME):
    """Levels of a frame in, its level out."""

    levels = connectionTypes.Input(
        name=datasets.FLAT_ISR_STATISTICS,
        doc="Levels of the corrected frame on a grid of tiles.",
        storageClass="StructuredDataDict",
        dimensions=FRAME,
    )
    statistics = connectionTypes.Output(
        name=datasets.FLAT_STATISTICS,
        doc="Level and shape of the frame.",
        storageClass="StructuredDataDict",
        dimensions=FRAME,
    )


class FlatMeasureConfig(pipe_base.PipelineTaskConfig, pipelineConnections=FlatMeasureConnections):
    """When a flat frame is too bright."""

    maxSuspectFraction = Field[float](doc="Largest fraction of pixels at or near saturation.", default=0.2)


class FlatMeasureTask(pipe_base.PipelineTask):
    """Reduce a frame's tiles to one level, and judge whether the frame is usable."""

    ConfigClass = FlatMeasureConfig
    _DefaultName = "cpFlatMeasure"

    def run(self, levels: Mapping[str, Any]) -> pipe_base.Struct:
        """Return ``statistics``: ``exposure, detector, level`` (electrons), ``gradient`` (relative), ``reason``.

        ``reason`` is empty for a usable frame.
        """
        tiles = np.array([[np.nan if level is None else level for level in row] for row in levels["tiles"]], float)
        known = np.isfinite(tiles)
        suspect = levels["saturated_fraction"] + levels["suspect_fraction"]
        reason = ""
        if not known.any():
            reason = "no usable pixels"
        elif suspect > self.config.maxSuspectFraction:
            reason = f"{suspect:.1%} of the pixels are at or near saturation"
        level = float(np.median(tiles[known])) if known.any() else 0.0
        gradient = float(np.ptp(tiles[known]) / level) if level > 0 else 0.0
        return pipe_base.Struct(
            statistics={
                "exposure": levels["exposure"],
                "detector": levels["detector"],
                "level": level,
                "gradient": gradient,
                "reason": reason,
            }
        )


class FlatNormalizeConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "physical_filter")):
    """Levels of all frames of a filter in, scales out."""

    statistics = connectionTypes.Input(
        name=datasets.FLAT_STATISTICS,
        doc="Level of each frame.",
        storageClass="StructuredDataDict",
        dimensions=FRAME,
        multiple=True,
    )
    scales = connectionTypes.Output(
        name=datasets.FLAT_SCALES,
        doc="Illumination of each exposure, response of each detector.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "physical_filter"),
    )


class FlatNormalizeConfig(pipe_base.PipelineTaskConfig, pipelineConnections=FlatNormalizeConnections):
    """Which exposures are left out."""

    minLevel = Field[float](doc="Least median level of an exposure, electrons.", default=1000.0)
    tolerance = Field[float](doc="Largest relative deviation of an exposure's illumination in shape.", default=0.03)


class FlatNormalizeTask(pipe_base.PipelineTask):
    """Fit one illumination per exposure over all detectors, so that their relative response stays in the flats."""

    ConfigClass = FlatNormalizeConfig
    _DefaultName = "cpFlatNormalize"

    def run(self, statistics: Sequence[Mapping[str, Any]]) -> pipe_base.Struct:
        """Return ``scales``: ``scales`` by exposure, ``levels`` by detector, ``rejected`` by exposure, ``scatter``.

        Keys are strings, as files of such dictionaries keep them.
        """
        usable = {
            (int(each["exposure"]), int(each["detector"])): float(each["level"])
            for each in statistics
            if not each["reason"]
        }
        light = fit_illumination(usable, minimum=self.config.minLevel, tolerance=self.config.tolerance)
        unusable = {f"{each['exposure']}:{each['detector']}": each["reason"] for each in statistics if each["reason"]}
        self.log.info("%d exposures, %d left out", len(light.scales), len(light.rejected))
        return pipe_base.Struct(
            scales={
                "scales": {str(key): value for key, value in light.scales.items()},
                "levels": {str(key): value for key, value in light.levels.items()},
                "rejected": {str(key): value for key, value in light.rejected.items()},
                "rejected_frames": unusable,
                "scatter": light.scatter if np.isfinite(light.scatter) else None,
            }
        )
