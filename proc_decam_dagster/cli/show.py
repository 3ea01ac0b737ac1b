"""What commands show: aligned tables, progress, and the reports of processing."""

import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

SECONDS_BETWEEN_LINES = 10.0
SHOWN_FAILURES = 20


class Progress:
    """Progress on stderr: bars on a terminal, now and then a line elsewhere.

    Its methods are the callbacks that the functions below take; several threads may call them.
    """

    def __init__(self, what: str = "") -> None:
        self.what = what
        self._bars: dict[str, Any] = {}
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def files(self, done: int, total: int, text: str = "") -> None:
        """Take the progress of a search, a download or an ingest."""
        self._tell(self.what, done, total, text)

    def quanta(self, progress: Any) -> None:
        """Take the progress of a step, see `execution.Progress`."""
        bad = ", ".join(f"{n} {w}" for n, w in ((progress.failed, "failed"), (progress.blocked, "blocked")) if n)
        self._tell(progress.step, progress.done, progress.total, f"{progress.task} {bad}".strip())

    def _tell(self, key: str, done: int, total: int, text: str) -> None:
        with self._lock:
            if sys.stderr.isatty():
                self._bar(key, total, text, done)
            elif done >= total or time.monotonic() - self._told.get(key, 0.0) > SECONDS_BETWEEN_LINES:
                self._told[key] = time.monotonic()
                click.echo(f"{key}: {done}/{total} {text}".rstrip(), err=True)

    def _bar(self, key: str, total: int, text: str, done: int) -> None:
        from tqdm import tqdm

        bar = self._bars.get(key)
        if bar is None or bar.total != total or done < bar.n:
            if bar is not None:
                bar.close()
            bar = self._bars[key] = tqdm(total=total, desc=key, file=sys.stderr, dynamic_ncols=True)
        bar.set_postfix_str(text[-60:], refresh=False)
        bar.update(done - bar.n)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table with aligned columns; numbers to the right."""
    rows = [["" if v is None else v for v in row] for row in rows]
    texts = [[str(v) for v in row] for row in rows]
    widths = [max(len(h), *(len(t[i]) for t in texts)) if texts else len(h) for i, h in enumerate(header)]
    right = [bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(header))]
    for line in [list(header), *texts]:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right)]
        click.echo("  ".join(cells).rstrip())


def failures(found: Sequence[Any]) -> None:
    """Print failures of quanta: which, why, and what to do next; those with the same cause and remedy share it."""
    for failure in found[:SHOWN_FAILURES]:
        data_id = " ".join(f"{k}={v}" for k, v in failure.data_id.items() if k != "instrument")
        times = f"tried {failure.attempts} times" if failure.attempts != 1 else "tried once"
        before = ", in an earlier run" if getattr(failure, "earlier", False) else ""
        click.echo(f"failed: {failure.task} {data_id} ({times}{before})")
        click.echo(f"  cause: {failure.exception}: {' '.join(failure.message.split())[:300]}")
        if failure.action:
            click.echo(f"  next:  {failure.action}")
    if len(found) > SHOWN_FAILURES:
        click.echo(f"… and {len(found) - SHOWN_FAILURES} more failures")


def steps(reports: Sequence[Any]) -> None:
    """Print what became of steps: counts by task, time, memory, then the failures."""
    rows = [
        (report.chain, report.step, label, c.succeeded, c.failed, c.blocked, c.skipped)
        for report in reports
        for label, c in report.tasks.items()
    ]
    if rows:
        table(("chain", "step", "task", "succeeded", "failed", "blocked", "done before"), rows)
    for report in reports:
        if not report.tasks or report.nothing_to_do:
            click.echo(str(report))
        else:
            click.echo(
                f"{report.chain} {report.step}: {report.quanta} quanta in {report.seconds:.1f} s, "
                f"{report.peak_rss_gb:.2f} GB at most, written to {report.run}"
            )
    for entry in dict.fromkeys(e for report in reports for e in report.exclusions):
        click.echo(f"left out by the list of exclusions: entry {entry}")
    for lacking in dict.fromkeys(text for report in reports for text in report.left_out_text):
        click.echo(lacking)
    failures([f for report in reports for f in report.failures])


def pipeline(report: Any) -> None:
    """Print what became of a proc type: its steps, why it stopped, what was certified."""
    steps(report.steps)
    if report.calibrations:
        click.echo(f"{report.chain}: calibrations: {report.calibrations_from}")
    if report.stopped:
        click.echo(report.stopped)
    certified(report.certified)


def nights(reports: Sequence[Any]) -> None:
    """Print one line a night and proc type: how its quanta stand, what is certified and with what, the error."""
    rows = []
    for report in reports:
        done = report.pipeline
        steps_done = done.steps if done else []
        ok, failed, blocked = (
            sum(sum(getattr(step, name) for name in names) for step in steps_done)
            for names in (("succeeded", "skipped"), ("failed",), ("blocked",))
        )
        certified_now = "-" if done is None or done.certified is None else str(len(done.certified.certified))
        error = " ".join((report.why_not if not report.ok else "").split())
        rows.append(
            (report.night, report.proc_type, ok, failed, blocked, certified_now,
             done.calibrations_from if done else "", round(report.seconds, 1), error or report.left_out or "ok")
        )  # fmt: skip
    table(("night", "proc type", "ok", "failed", "blocked", "certified", "calibrations", "seconds", "outcome"), rows)


def certified(report: Any) -> None:
    """Print what was certified, and what was not and why."""
    if report is None:
        return
    click.echo(str(report).partition("; not certified")[0])
    for data_id, reason in report.refused:
        click.echo(f"  not certified: {' '.join(f'{k}={v}' for k, v in data_id.items())}: {reason}")
    if report.withheld:
        click.echo(f"  withheld: {len(report.withheld)} good ones, until all are there or with --partial")
    if report.replaced:
        click.echo("  what was processed with those stays as it is until it is run again with --no-skip-existing")


def ingested(report: Any) -> None:
    """Print what became of raw files."""
    click.echo(f"raws: {report.ingested} ingested, {report.existing} there before, {len(report.failed)} failed")
    for path, reason in report.failed[:SHOWN_FAILURES]:
        click.echo(f"  failed: {path}: {reason}")
    if len(report.failed) > SHOWN_FAILURES:
        click.echo(f"  … and {len(report.failed) - SHOWN_FAILURES} more")


def survey_update(update: Any) -> None:
    """Print what a search found: the nights, what they lack, and every change since the one before."""
    kinds = ("science", "dome_flats", "zeros")
    rows = []
    for row in update.nights:
        counts = [_by_band(row, "flats_"), _by_band(row, "science_")]
        hours = row["science_seconds"] / 3600
        rows.append((str(row["night"]), int(row["zeros"]), *counts, f"{hours:.2f}", f"{row['expected_gb']:.1f}",
                     str(row["lacks"]) or "-"))  # fmt: skip
    table(("night", "zeros", "dome flats", "science", "hours", "GB", "lacks"), rows)
    # New rows are what is expected, and counted; of the others each is named.
    named = [c for c in update.changes if c.change != "new"]
    for change in named[:SHOWN_FAILURES]:
        click.echo(str(change))
    if len(named) > SHOWN_FAILURES:
        click.echo(f"… and {len(named) - SHOWN_FAILURES} more")
    if update.changes:
        click.echo(f"since the last search: {update.summary}; all changes are in {update.changes_file}")
    if update.counts["vanished"]:
        click.echo("vanished rows stay in the table: the archive may have withdrawn them only for the moment")
    total, unknown = sum(update.nights["expected_gb"]), sum(update.nights["files_of_unknown_size"])
    frames = sum(int(sum(update.nights[kind])) for kind in kinds)
    size = f"{total:.1f} GB" + (f" if the {unknown} files of unknown size are typical ones" if unknown else "")
    kept = len(update.table) - update.found
    files = f"{len(update.table)} files of {len(update.nights)} nights"
    told = f"wrote {files} to {update.file}" if update.written else f"{update.file} is as it was, {files}"
    earlier = f", {kept} of them from earlier searches" if kept > 0 else ""
    click.echo(f"{told} ({frames} raws, {size}{earlier})")
    if len(update.missing):
        helped = sum(bool(n) for n in update.missing["nearest_night"])
        click.echo(
            f"{len(update.missing)} calibrations are missing, {helped} of which a night nearby has: "
            f"see {update.missing_file}"
        )


def _by_band(row: Any, prefix: str) -> str:
    counts = {name.removeprefix(prefix): int(row[name]) for name in row.colnames if name.startswith(prefix)}
    return " ".join(f"{band}:{n}" for band, n in counts.items() if n and band != "seconds") or "0"
