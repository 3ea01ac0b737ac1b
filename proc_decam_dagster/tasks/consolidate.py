"""Tables of a visit made of those of its detectors."""

from collections.abc import Iterable, Mapping

import lsst.pipe.base as pipe_base
from astropy.table import Table, vstack
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.survey import datasets


class ConsolidateTableConnections(
    pipe_base.PipelineTaskConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={"detectorTable": datasets.PRE_SOURCE_TABLE, "visitTable": datasets.PRE_SOURCE_TABLE_VISIT},
):
    """Tables of detectors in, one table of the visit out."""

    tables = connectionTypes.Input(
        name="{detectorTable}",
        doc="Tables of the detectors.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
    )
    table = connectionTypes.Output(
        name="{visitTable}",
        doc="All their rows, in the order of the detectors.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )


class ConsolidateTableConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ConsolidateTableConnections):
    """Nothing to configure but the names."""


class ConsolidateTableTask(pipe_base.PipelineTask):
    """Join the tables of a visit's detectors."""

    ConfigClass = ConsolidateTableConfig
    _DefaultName = "consolidateTable"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the tables in the order of the detectors, join and write them."""
        refs = sorted(inputRefs.tables, key=lambda ref: ref.dataId["detector"])
        butlerQC.put(self.run(butlerQC.get(refs)), outputRefs)

    def run(self, tables: Iterable[Table]) -> pipe_base.Struct:
        """Return ``table``: the rows of all tables; their columns are the same."""
        tables = list(tables)
        filled = [table for table in tables if len(table)] or tables[:1]
        return pipe_base.Struct(table=vstack(filled, join_type="exact", metadata_conflicts="silent"))


class ConsolidateVisitSummaryConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "visit")):
    """Summaries of detectors in, summary of the visit out."""

    summaries = connectionTypes.Input(
        name=datasets.CALEXP_SUMMARY,
        doc="Figures of each calibrated detector.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
    )
    summary = connectionTypes.Output(
        name=datasets.PRE_VISIT_SUMMARY,
        doc="One row a detector.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )


class ConsolidateVisitSummaryConfig(
    pipe_base.PipelineTaskConfig, pipelineConnections=ConsolidateVisitSummaryConnections
):
    """Nothing to configure."""


class ConsolidateVisitSummaryTask(pipe_base.PipelineTask):
    """Make the visit summary of the figures of its detectors."""

    ConfigClass = ConsolidateVisitSummaryConfig
    _DefaultName = "consolidateVisitSummary"

    def run(self, summaries: Iterable[Mapping]) -> pipe_base.Struct:
        """Return ``summary``: one row a detector, in their order."""
        rows = sorted((dict(summary) for summary in summaries), key=lambda row: row["detector"])
        return pipe_base.Struct(summary=Table(rows=rows, names=list(rows[0])))
