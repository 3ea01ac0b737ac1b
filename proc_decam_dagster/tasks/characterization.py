"""What is known of a visit once all visits have been seen: its stars against their means, its detectors judged."""

import lsst.pipe.base as pipe_base
from astropy.table import vstack
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.star_association import match_visit
from proc_decam_dagster.pixels.visit_quality import QualityLimits, judge
from proc_decam_dagster.survey import datasets

VISIT = ("instrument", "visit")


class FinalizeCharacterizationConnections(pipe_base.PipelineTaskConnections, dimensions=VISIT):
    """Sources of a visit and isolated stars in, the visit's measurements of these stars out."""

    sources = connectionTypes.Input(
        name=datasets.PRE_SOURCE_TABLE_VISIT, doc="Sources of the visit.", storageClass="ArrowAstropy", dimensions=VISIT
    )
    stars = connectionTypes.Input(
        name=datasets.ISOLATED_STARS,
        doc="Isolated stars of the tracts that the visit overlaps.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "skymap", "tract"),
        multiple=True,
    )
    finalized = connectionTypes.Output(
        name=datasets.FINALIZED_SOURCES,
        doc="Stars of the visit, which of them were used, and their difference from their means.",
        storageClass="ArrowAstropy",
        dimensions=VISIT,
    )


class FinalizeCharacterizationConfig(
    pipe_base.PipelineTaskConfig, pipelineConnections=FinalizeCharacterizationConnections
):
    """Share of the stars kept for tests."""

    reservedFraction = Field[float](doc="Share of the stars set aside to test with.", default=0.2)


class FinalizeCharacterizationTask(pipe_base.PipelineTask):
    """Compare a visit's stars with their means over all visits."""

    ConfigClass = FinalizeCharacterizationConfig
    _DefaultName = "finalizeCharacterization"

    def run(self, sources, stars) -> pipe_base.Struct:
        """Return ``finalized``, see `proc_decam_dagster.pixels.star_association.match_visit`.

        Parameters
        ----------
        sources : `astropy.table.Table`
        stars : `list` [`astropy.table.Table`]
            One table a tract; each star is in one of them.
        """
        joined = vstack([t for t in stars if len(t)] or stars[:1], metadata_conflicts="silent")
        return pipe_base.Struct(finalized=match_visit(sources, joined, reserved_fraction=self.config.reservedFraction))


class UpdateVisitSummaryConnections(pipe_base.PipelineTaskConnections, dimensions=VISIT):
    """Preliminary summary and the visit's stars in, final summary out."""

    preliminary = connectionTypes.Input(
        name=datasets.PRE_VISIT_SUMMARY, doc="One row a detector.", storageClass="ArrowAstropy", dimensions=VISIT
    )
    stars = connectionTypes.Input(
        name=datasets.FINALIZED_SOURCES,
        doc="The visit's stars against their means.",
        storageClass="ArrowAstropy",
        dimensions=VISIT,
    )
    summary = connectionTypes.Output(
        name=datasets.VISIT_SUMMARY,
        doc="One row a detector, with `accepted` and `reason`.",
        storageClass="ArrowAstropy",
        dimensions=VISIT,
    )


class UpdateVisitSummaryConfig(pipe_base.PipelineTaskConfig, pipelineConnections=UpdateVisitSummaryConnections):
    """Limits beyond which a detector is not accepted, see `QualityLimits`."""

    maxZeroPointOffset = Field[float](doc="From the visit's median, mag.", default=QualityLimits.zero_point_offset)
    maxSeeingRatio = Field[float](doc="Over the visit's median.", default=QualityLimits.seeing_ratio)
    maxSeeingArcsec = Field[float](doc="Seeing.", default=QualityLimits.seeing_arcsec)
    maxAstrometricRmsMas = Field[float](doc="Scatter.", default=QualityLimits.astrometric_rms_mas)
    maxMaskedFraction = Field[float](doc="Unusable pixels.", default=QualityLimits.masked_fraction)
    maxStarOffset = Field[float](doc="Stars against their means, mag.", default=QualityLimits.star_offset)

    def limits(self) -> QualityLimits:
        """Return the configuration as the algorithm takes it."""
        return QualityLimits(
            zero_point_offset=self.maxZeroPointOffset,
            seeing_ratio=self.maxSeeingRatio,
            seeing_arcsec=self.maxSeeingArcsec,
            astrometric_rms_mas=self.maxAstrometricRmsMas,
            masked_fraction=self.maxMaskedFraction,
            star_offset=self.maxStarOffset,
        )


class UpdateVisitSummaryTask(pipe_base.PipelineTask):
    """Judge each detector of a visit."""

    ConfigClass = UpdateVisitSummaryConfig
    _DefaultName = "updateVisitSummary"

    def run(self, preliminary, stars) -> pipe_base.Struct:
        """Return ``summary``, see `proc_decam_dagster.pixels.visit_quality.judge`."""
        summary = judge(preliminary, stars, self.config.limits())
        for row in summary[~summary["accepted"]]:
            self.log.warning("visit %d detector %d is not accepted: %s", row["visit"], row["detector"], row["reason"])
        return pipe_base.Struct(summary=summary)
