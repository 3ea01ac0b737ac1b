"""Commands that bring a table's files to disk, or enter those that came by other means."""

import shutil
import sys
import time
from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import archive_url_option, command, select, select_option
from proc_decam_dagster.errors import SurveyError

SHOWN_DUPLICATES = 10
nights_option = click.option("--nights", default="", help="Only nights that match this regular expression as a whole.")


@command(
    "download",
    example="proc-decam download ./data/exposures.ecsv --download-dir ./data/images\n"
    "proc-decam download ./data/exposures.ecsv --download-dir ./data/images --nights '201904.*' --dry-run\n"
    "proc-decam download ./data/exposures.ecsv --download-dir ./data/images --select night=20190401 band='VR|solid'\n"
    "proc-decam download ./data/exposures.ecsv --download-dir ./data/images --verify -j 8",
)
@click.argument("exposures_file", type=click.Path(path_type=Path))
@click.option(
    "--download-dir", type=click.Path(path_type=Path, file_okay=False), default=Path("."), show_default=True,
    help="Where files go, as {md5}_{archive name}.",
)  # fmt: skip
@click.option("-j", "--processes", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at once.")
@select_option
@nights_option
@click.option("--dry-run", is_flag=True, help="Tell how many files and GB it would be, and how long it would take.")
@click.option("--verify", is_flag=True, help="Only read what is on disk, and compare its md5; fetch nothing.")
@click.option("--check", is_flag=True, help="Read what is on disk again, and fetch what is missing or spoilt.")
@archive_url_option
def download(
    exposures_file, download_dir, processes, select: tuple, nights, dry_run, verify, check, archive_url
) -> None:
    """Download and verify the files of an exposure table.

    Files that are on disk and verified are not fetched again, so run it again after any interruption. What is known of
    each file is kept in <table>.ledger.sqlite beside the table, written as it goes, and at the end in
    downloaded_<table>. A file that came with another md5 is kept as <name>.bad.

    Proprietary files need an account: NOIRLAB_USER and NOIRLAB_PASS, or a file of mode 0600 with {"user": …,
    "password": …}, ~/.config/proc-decam/noirlab.json or what NOIRLAB_AUTH_FILE names.
    """
    from proc_decam_dagster import archive as files
    from proc_decam_dagster.survey.exposures import read_exposures, select_nights

    table = read_exposures(exposures_file, ("md5sum", "archive_filename", *(["night"] if nights else [])))
    table = _raws_unless_asked(select_nights(table, nights) if nights else table, select)
    where = {"state_file": files.state_file_of(exposures_file)}
    if dry_run:
        return _show_plan(files.plan(table, download_dir, **where))
    if verify:
        with show.Progress("verify") as progress:
            report = files.verify(table, download_dir, jobs=processes, progress=progress.files, **where)
        _show_outcomes(report)
        click.echo(f"{len(report.paths)} files read and verified in {report.seconds:.0f} s")
        return _raise_if_spoilt(report)
    with Watch() as watch:
        report = files.download(
            files.Archive(archive_url or None), table, download_dir, jobs=processes, check_disk=check, watch=watch,
            **where,
        )  # fmt: skip
    _show_outcomes(report)
    free = shutil.disk_usage(download_dir).free
    click.echo(
        f"{report.fetched} files fetched ({report.bytes / 1e9:.2f} GB in {report.seconds:.0f} s), "
        f"{len(report.paths) - report.fetched} there before; {free / 1e9:.0f} GB free; state in {report.state_file}"
    )
    report.raise_on_failure()


@command(
    "adopt",
    example="proc-decam adopt ./data/images\nproc-decam adopt ./data/exposures.ecsv /mnt/colleague/decam -j 8",
)
@click.argument("words", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="[EXPOSURES] DIR")
@click.option("-j", "--processes", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at once.")
@select_option
@nights_option
@click.option("--check", is_flag=True, help="Read also files that are known and have not changed since.")
def adopt(words, processes, select: tuple, nights, check) -> None:
    """Verify files that came by other means, and enter them into the ledger.

    DIR is a folder that rsync or a colleague filled, at any depth. Its files are known by their md5, not by their
    names; they stay where they are, and are then as good as downloaded ones. Without EXPOSURES, the exposure table is
    the one in DIR or in the folder above it.
    """
    from proc_decam_dagster import archive as files
    from proc_decam_dagster.survey.exposures import read_exposures, select_nights

    if len(words) > 2:
        raise click.UsageError("one exposure table and one folder are expected")
    directory = words[-1]
    exposures_file = words[0] if len(words) == 2 else _table_near(directory)
    table = read_exposures(exposures_file, ("md5sum", "archive_filename", *(["night"] if nights else [])))
    table = _raws_unless_asked(select_nights(table, nights) if nights else table, select)
    with show.Progress("adopt") as progress:
        report = files.adopt(
            table, directory, jobs=processes, check_disk=check, progress=progress.files,
            state_file=files.state_file_of(exposures_file),
        )  # fmt: skip
    _show_outcomes(report)
    if report.strangers:
        shown = ", ".join(report.strangers[:SHOWN_DUPLICATES])
        more = f" … and {len(report.strangers) - SHOWN_DUPLICATES} more" * (len(report.strangers) > SHOWN_DUPLICATES)
        click.echo(f"{len(report.strangers)} files are not in {exposures_file}: {shown}{more}")
    click.echo(f"{len(report.paths)} of {len(report.results)} files are verified; ledger {report.ledger_file}")
    _raise_if_spoilt(report)


def _table_near(directory: Path) -> Path:
    from proc_decam_dagster.survey.exposures import FILE_NAME

    places = [directory / FILE_NAME, directory.absolute().parent / FILE_NAME]
    for place in places:
        if place.is_file():
            return place
    raise SurveyError(
        f"there is no {FILE_NAME} in {directory} nor above it", fix=f"`proc-decam adopt EXPOSURES {directory}`"
    )


def _raws_unless_asked(table, selections):
    """Return the chosen rows; files that no pipeline here reads are left out, unless the selection asks for them."""
    import numpy as np

    table = select(table, selections)
    if "proc_type" not in table.colnames or any(s.startswith("proc_type=") for s in selections):
        return table
    raw = np.asarray(table["proc_type"]).astype(str) == "raw"
    if not raw.any():
        raise SurveyError("the table holds no raw files", fix="add `--select proc_type=instcal` to get those")
    if not raw.all():
        click.echo(f"{(~raw).sum()} files that are not raw are left out", err=True)
    return table[raw]


def _show_plan(plan) -> None:
    """Print what a download would do."""
    click.echo(f"{len(plan.missing)} files to fetch, {len(plan.there)} there and verified")
    if plan.missing:
        guess = f" ({plan.guessed} files of unknown size: that of the others is taken)" if plan.guessed else ""
        if plan.bytes:
            click.echo(f"{plan.bytes / 1e9:.2f} GB to fetch{guess}; {plan.free / 1e9:.0f} GB free")
        else:
            click.echo(f"GB to fetch: unknown, no file of this table has come yet; {plan.free / 1e9:.0f} GB free")
        if plan.bytes > plan.free:
            click.echo("it does not fit on the disk: the download would stop before it is full")
        if plan.seconds is not None:
            click.echo(f"about {clock(plan.seconds)} at the {plan.rate / 1e6:.1f} MB/s of past downloads")
        else:
            click.echo("time: unknown, there was no download yet")
    _show_duplicates(plan.duplicates)


def _show_outcomes(report) -> None:
    show.table(("outcome", "files"), [(str(o), n) for o, n in report.counts.most_common()])
    absent = "not on disk"  # counted; only what went wrong is named
    failures = [(name, why) for name, why in report.failures if why != absent]
    for name, why in failures[: show.SHOWN_FAILURES]:
        click.echo(f"  {name}: {why}")
    if len(failures) > show.SHOWN_FAILURES:
        click.echo(f"  … and {len(failures) - show.SHOWN_FAILURES} more")
    _show_duplicates(report.duplicates)


def _show_duplicates(duplicates) -> None:
    for duplicate in duplicates[:SHOWN_DUPLICATES]:
        click.echo(f"  duplicate: {duplicate}")
    if len(duplicates) > SHOWN_DUPLICATES:
        click.echo(f"  … and {len(duplicates) - SHOWN_DUPLICATES} more duplicates")


def _raise_if_spoilt(report) -> None:
    spoilt = [name for name, why in report.failures if why.startswith("spoilt")]
    if spoilt:
        raise SurveyError(
            f"{len(spoilt)} files are spoilt ({spoilt[0]}{' …' if len(spoilt) > 1 else ''})",
            "the md5 of the exposure table",
            "fetch them again with `proc-decam download`",
        )


def clock(seconds: float) -> str:
    """Return a time as people write it: 3:05:00."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Watch:
    """Shows a download on stderr: on a terminal a line in all and one a file, elsewhere now and then a line."""

    def __init__(self) -> None:
        self._lines = 0
        self._told = time.monotonic()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def __call__(self, snapshot) -> None:
        """Take a `Snapshot`."""
        over = snapshot.files == snapshot.total
        if sys.stderr.isatty():
            self._clear()
            if not over:
                width = shutil.get_terminal_size().columns
                lines = [total_line(snapshot), *map(file_line, snapshot.active)]
                sys.stderr.write("".join(f"{line[: width - 1]}\n" for line in lines))
                sys.stderr.flush()
                self._lines = len(lines)
        elif over or time.monotonic() - self._told > show.SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            click.echo("; ".join([total_line(snapshot), *map(file_line, snapshot.active)]), err=True)

    def _clear(self) -> None:
        if self._lines:
            sys.stderr.write(f"\x1b[{self._lines}F\x1b[J")
            sys.stderr.flush()
            self._lines = 0


def total_line(snapshot) -> str:
    """Return the line of all files together."""
    expected = f" of {snapshot.expected / 1e9:.2f}" if snapshot.expected else ""
    left = f", {clock(snapshot.eta)} left" if snapshot.eta is not None else ""
    return (
        f"download: {snapshot.files}/{snapshot.total} files, {snapshot.bytes / 1e9:.2f}{expected} GB, "
        f"{snapshot.rate / 1e6:.1f} MB/s{left}"
    )


def file_line(active) -> str:
    """Return the line of one file."""
    part = (
        f"{active.bytes / active.size:4.0%} of {active.size / 1e6:.0f} MB"
        if active.size
        else (f"{active.bytes / 1e6:.0f} MB")
    )
    left = f", {clock((active.size - active.bytes) / active.rate)} left" if active.size and active.bytes else ""
    return f"  {active.name} {part} at {active.rate / 1e6:.1f} MB/s{left}"
