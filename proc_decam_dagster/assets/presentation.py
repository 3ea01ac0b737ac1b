"""How results are shown in the Dagster UI: tables, pictures, and the report of a processing chain."""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from proc_decam_dagster.survey.collections import chain_name
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.execution import PipelineReport
    from proc_decam_dagster.repository import Repository

SHOWN_FAILURES = 50


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> dg.MarkdownMetadataValue | dg.TextMetadataValue:
    """Return a table that the UI renders; a table without rows is the word ``none``."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    if not lines:
        return listed([])
    return dg.MetadataValue.md("\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header), *lines]))


def headings(columns: Iterable[str]) -> list[str]:
    """Return columns of a table as people read them: ``expected_gb`` is ``expected (GB)``."""
    return [column.replace("_gb", " (GB)").replace("_", " ") for column in columns]


def listed(items: Sequence[Any]) -> dg.TextMetadataValue:
    """Return items as a text: the page of a check shows that in place, and hides tables and JSON behind a link."""
    return dg.MetadataValue.text(", ".join(map(str, items)) or "none")


def described(what: str, proc_type: str, *figures: str, template_type: str = "", level: str = "") -> str:
    """Return the description of a processed asset: what it is, its chain, and what its figures mean.

    Parameters
    ----------
    what : `str`
        In a sentence without markup: lists of assets show it as it is.
    proc_type : `str`
        Whose chain it is.
    *figures : `str`
        Names of figures of its metadata.
    template_type : `str`
        Of coadds and differences.
    level : `str`
        Unit of levels.
    """
    from proc_decam_dagster.report.labels import FIGURES, LEVELS

    parts = {"subset": "{night}", "coadd_subset": "{coadd_subset}", "template_type": template_type}
    chain = chain_name(proc_type, **{axis: parts[axis] for axis in PROC_TYPES[proc_type].axes})
    rows = []
    for name in figures:
        words, unit, _ = FIGURES[name]
        rows.append((f"`{name}`", words, level if name in LEVELS else unit))
    return "\n\n".join([what, f"Chain `{chain}`.", markdown_table(("figure", "what it is", "unit"), rows).value])


def picture(png: bytes, caption: str = "") -> dg.MarkdownMetadataValue:
    """Return a PNG that the UI shows in place."""
    return dg.MetadataValue.md(f"![{caption}](data:image/png;base64,{base64.b64encode(png).decode()})")


def runs_of(report: "PipelineReport") -> list[str]:
    """Return the RUN collections that a report's steps wrote."""
    return [run for step in report.steps for run in step.runs]


def measured(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as they are shown: six digits, and in words what could not be measured."""
    shown = {}
    for name, value in figures.items():
        if isinstance(value, float):
            value = float(f"{value:.6g}") if math.isfinite(value) else dg.MetadataValue.text("not measured")
        shown[name] = value
    return shown


def data_version(contents: Iterable[object]) -> dg.DataVersion:
    """Return a data version of what an asset holds: the same again if it is made anew without a change."""
    text = "\n".join(str(c) for c in contents)
    return dg.DataVersion(hashlib.sha256(text.encode()).hexdigest()[:16])


def versions_of(repo: "Repository", chain: str) -> dg.DataVersion:
    """Return the data version of a chain: the same as long as its RUNs are."""
    from proc_decam_dagster.repository.chains import runs_of as runs_of_chain

    return data_version([chain, *runs_of_chain(repo.butler(), chain)])


def report_metadata(report: "PipelineReport") -> dict[str, Any]:
    """Return the metadata of a processing chain's report: counts, failures with cause and next action, time, memory."""
    counts = [
        (step.step, label, c.succeeded, c.failed, c.blocked, c.skipped)
        for step in report.steps
        for label, c in step.tasks.items()
    ]
    failures = report.failures
    metadata: dict[str, Any] = {
        "chain": report.chain,
        "quanta_succeeded": sum(c[2] for c in counts),
        "quanta_failed": sum(c[3] for c in counts),
        "quanta_blocked": sum(c[4] for c in counts),
        "seconds": round(report.seconds, 2),
    }
    if report.peak_rss_gb:  # else no worker ran: a point at 0 would be drawn among those that were measured
        metadata["peak_rss_gb"] = round(report.peak_rss_gb, 3)
    if report.calibrations:
        metadata["calibrations"] = f"calibrations from: {report.calibrations_from}"
    if failures:
        rows = [
            (f.task, ", ".join(f"{k}={v}" for k, v in f.data_id.items()), f"{f.exception}: {f.message}", f.action)
            for f in failures[:SHOWN_FAILURES]
        ]
        metadata["failures"] = markdown_table(("task", "data id", "cause", "what to do next"), rows)
    if report.exclusions:
        metadata["exclusions"] = dg.MetadataValue.md("\n".join(f"- {e}" for e in report.exclusions))
    return metadata | {
        "quanta": markdown_table(("step", "task", "ok", "failed", "blocked", "done before"), counts),
        "runs": dg.MetadataValue.json(runs_of(report)),
    }
