"""How results are shown in the Dagster UI: tables, pictures, and the report of a processing chain."""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from proc_decam_dagster.execution import PipelineReport
    from proc_decam_dagster.repository import Repository

SHOWN_FAILURES = 50


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """Return a table that the UI renders."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return dg.MetadataValue.md("\n".join(lines))


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
        "peak_rss_gb": round(report.peak_rss_gb, 3),
    }
    if report.calibrations:
        metadata["calibrations"] = f"calibrations from: {report.calibrations_from}"
    if failures:
        rows = [
            (f.task, ", ".join(f"{k}={v}" for k, v in f.data_id.items()), f"{f.exception}: {f.message}", f.action)
            for f in failures[:SHOWN_FAILURES]
        ]
        metadata["failures"] = markdown_table(("task", "data id", "cause", "what to do next"), rows)
    if report.exclusions:
        metadata["exclusions"] = "\n".join(f"- {entry}" for entry in report.exclusions)
    return metadata | {
        "quanta": markdown_table(("step", "task", "succeeded", "failed", "blocked", "skipped"), counts),
        "runs": dg.MetadataValue.json(runs_of(report)),
    }
