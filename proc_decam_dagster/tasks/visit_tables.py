"""Tables of all visits: one row a visit, and one row a detector and visit."""

import lsst.pipe.base as pipe_base
from astropy.table import Table, vstack
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.visit_quality import visit_row
from proc_decam_dagster.survey import datasets


class VisitTableConnections(
    pipe_base.PipelineTaskConnections, dimensions=("instrument",), defaultTemplates={"output": datasets.VISIT_TABLE}
):
    """Final visit summaries in, one table out."""

    summaries = connectionTypes.Input(
        name=datasets.VISIT_SUMMARY,
        doc="Final visit summaries.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        multiple=True,
        deferLoad=True,
    )
    table = connectionTypes.Output(
        name="{output}", doc="One table of all visits.", storageClass="ArrowAstropy", dimensions=("instrument",)
    )


class MakeVisitTableConfig(pipe_base.PipelineTaskConfig, pipelineConnections=VisitTableConnections):
    """Nothing to configure but the name."""


class _SummariesTask(pipe_base.PipelineTask):
    """Read all visit summaries, in the order of the visits."""

    ConfigClass = MakeVisitTableConfig
    _DefaultName = "makeVisitTable"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the summaries one at a time and write the table."""
        refs = sorted(inputRefs.summaries, key=lambda ref: ref.dataId["visit"])
        butlerQC.put(self.run([handle.get() for handle in butlerQC.get(refs)]), outputRefs)


class MakeVisitTableTask(_SummariesTask):
    """Make the table of visits."""

    def run(self, summaries: list[Table]) -> pipe_base.Struct:
        """Return ``table``: one row a visit, medians over its accepted detectors."""
        rows = [visit_row(summary) for summary in summaries if len(summary)]
        return pipe_base.Struct(table=Table(rows=rows, names=list(rows[0])))


class MakeCcdVisitTableConnections(
    VisitTableConnections, dimensions=("instrument",), defaultTemplates={"output": datasets.CCD_VISIT_TABLE}
):
    """The same, for the table of detectors."""


class MakeCcdVisitTableConfig(pipe_base.PipelineTaskConfig, pipelineConnections=MakeCcdVisitTableConnections):
    """Nothing to configure but the name."""


class MakeCcdVisitTableTask(_SummariesTask):
    """Make the table of detectors and visits."""

    ConfigClass = MakeCcdVisitTableConfig
    _DefaultName = "makeCcdVisitTable"

    def run(self, summaries: list[Table]) -> pipe_base.Struct:
        """Return ``table``: the rows of all visit summaries."""
        return pipe_base.Struct(table=vstack(summaries, metadata_conflicts="silent"))
