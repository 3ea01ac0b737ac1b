"""Commands about a survey's data: what the archive has, its files, its nights."""

from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, command, select, select_option
from proc_decam_dagster.errors import SurveyError

archive_url_option = click.option(
    "--archive-url", envvar="PROC_DECAM_ARCHIVE_URL", default="", help="Address of the archive.  [default: NOIRLab's]"
)


@command(
    "exposures",
    example="proc-decam exposures ./data --proposal-id 2019A-0337\n"
    "proc-decam exposures ./data -p 2019A-0337 --dates 20190401 20190430",
)
@click.argument("data_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-p", "--proposal-id", cls=Many, split=True, accepts=lambda word: word[:4].isdigit(), default=["2019A-0337"],
    show_default=True, metavar="ID …", help="Proposals of the survey.",
)  # fmt: skip
@click.option("--dates", nargs=2, metavar="FIRST LAST", help="Only these nights (caldats YYYYMMDD, both included).")
@click.option(
    "--proc-types", "--proc-type", cls=Many, split=True, accepts=lambda word: word in ("raw", "instcal"),
    default=["raw"], show_default=True, help="Archive processing types of the science exposures: raw, instcal.",
)  # fmt: skip
@archive_url_option
def exposures(data_dir, proposal_id, dates, proc_types, archive_url) -> None:
    """Search the archive for a survey's exposures and their calibrations.

    Writes DATA_DIR/exposures.ecsv (science exposures of the proposals, and for each of their nights the zeros and the
    dome flats of the bands used) and DATA_DIR/missing_data.ecsv (nights that lack some).
    """
    from proc_decam_dagster.archive import Archive, query_exposures
    from proc_decam_dagster.survey import exposures as tables

    archive = Archive(archive_url or None)
    with show.Progress("archive") as progress:
        table, missing = query_exposures(
            archive, proposal_id, proc_types=proc_types, dates=dates or None, progress=progress.files
        )
    tables.write_exposures(table, data_dir / tables.FILE_NAME)
    tables.write_exposures(missing, data_dir / tables.MISSING_NAME)
    _show_nights(table, missing)
    click.echo(f"wrote {len(table)} files of {len(tables.nights_of(table))} nights to {data_dir / tables.FILE_NAME}")
    if len(missing):
        click.echo(f"{len(missing)} calibrations are missing: see {data_dir / tables.MISSING_NAME}")


@command(
    "download",
    example="proc-decam download ./data/exposures.ecsv --download-dir ./data/images\n"
    "proc-decam download ./data/exposures.ecsv --download-dir ./data/images --select night=20190401 band='VR|solid'",
)
@click.argument("exposures_file", type=click.Path(path_type=Path))
@click.option(
    "--download-dir", type=click.Path(path_type=Path, file_okay=False), default=Path("."), show_default=True,
    help="Where files go, as {md5}_{archive name}.",
)  # fmt: skip
@click.option("-j", "--processes", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at once.")
@select_option
@click.option("--check", is_flag=True, help="Read files that are on disk again, and compare their md5.")
@archive_url_option
def download(exposures_file, download_dir, processes, select: tuple, check, archive_url) -> None:
    """Download and verify the files of an exposure table.

    Files that are on disk and verified are not fetched again, so run it again after any interruption. What is known of
    each file is kept in downloaded_<table> beside the table. Proprietary files need NOIRLAB_USER and NOIRLAB_PASS.
    """
    import shutil

    from proc_decam_dagster.archive import Archive, state_file_of
    from proc_decam_dagster.archive import download as fetch
    from proc_decam_dagster.survey.exposures import read_exposures

    table = _raws_unless_asked(read_exposures(exposures_file, ("md5sum", "archive_filename")), select)
    with show.Progress("download") as progress:
        report = fetch(
            Archive(archive_url or None), table, download_dir, jobs=processes, check_disk=check,
            state_file=state_file_of(exposures_file), progress=progress.files,
        )  # fmt: skip
    show.table(("outcome", "files"), [(str(o), n) for o, n in report.counts.most_common()])
    for name, why in report.failures[: show.SHOWN_FAILURES]:
        click.echo(f"  {name}: {why}")
    free = shutil.disk_usage(download_dir).free
    click.echo(
        f"{report.fetched} files fetched ({report.bytes / 1e9:.2f} GB in {report.seconds:.0f} s), "
        f"{len(report.paths) - report.fetched} there before; {free / 1e9:.0f} GB free; state in {report.state_file}"
    )
    report.raise_on_failure()


@command("nights", example="proc-decam nights ./data/exposures.ecsv\nproc-decam nights ./repo")
@click.argument("source", type=click.Path(path_type=Path))
def nights(source) -> None:
    """List the nights of an exposure table or repository, and which calibrations they lack.

    SOURCE is a table written by `exposures`, or a repository that was given one.
    """
    from proc_decam_dagster.survey.exposures import read_exposures

    if source.is_dir():
        from proc_decam_dagster.repository import open_repository

        table = open_repository(source).known_exposures()
    else:
        table = read_exposures(source)
    _show_nights(table)


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


def _show_nights(table, missing=None) -> None:
    from proc_decam_dagster.survey import exposures as tables
    from proc_decam_dagster.survey.proc_types import PROC_TYPES

    rows = []
    for night in tables.nights_of(table):
        part = tables.rows_of_nights(table, [night])
        zeros, flats, objects = (tables.rows_of_obs_type(part, PROC_TYPES[p].obs_type) for p in ("bias", "flat", "drp"))
        lacks = [] if len(zeros) else ["bias"]
        lacks += [f"flat {b}" for b in sorted(set(objects["band"]) - set(flats["band"]))]
        rows.append((night, len(zeros), _by_band(flats), _by_band(objects), ", ".join(lacks) or "-"))
    show.table(("night", "zeros", "dome flats", "science", "lacks"), rows)


def _by_band(table) -> str:
    from collections import Counter

    return " ".join(f"{band}:{n}" for band, n in sorted(Counter(map(str, table["band"])).items())) or "0"
