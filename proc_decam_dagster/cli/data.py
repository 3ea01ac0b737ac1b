"""Commands about a survey's data: what the archive has, its nights."""

from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, archive_url_option, command


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
@click.option("--instcal", is_flag=True, help="The same as `--proc-types raw instcal`.")
@click.option(
    "--obs-types", cls=Many, split=True, accepts=lambda word: word.replace("-", "").isalpha(),
    default=["object", "zero", "flat"], show_default=True, metavar="TYPE …",
    help="Observation types: object, zero, flat, or others of the archive's, such as sky-flat.",
)  # fmt: skip
@click.option("--instrument", default="decam", show_default=True, help="Instrument, as the archive calls it.")
@archive_url_option
def exposures(data_dir, proposal_id, dates, proc_types, instcal, obs_types, instrument, archive_url) -> None:
    """Search the archive for a survey's exposures and their calibrations.

    Writes DATA_DIR/exposures.ecsv: science exposures of the proposals, and for each of their nights the zeros and the
    dome flats of the bands used. Beside it: missing_data.ecsv (nights that lack some, and the nearest that has them),
    exposures_nights.ecsv (figures by night) and exposures_sky.png (a map).

    Run it again to bring the table up to date. Nothing is dropped: what the archive no longer shows is named and kept,
    and every change is added to exposures_changes.ecsv.
    """
    from proc_decam_dagster.archive import Archive, update_exposures
    from proc_decam_dagster.archive.query import FLAT, OBJECT, ZERO
    from proc_decam_dagster.report import sky_map
    from proc_decam_dagster.report.sky import SKY_NAME

    names = {"science": OBJECT, "bias": ZERO, "flat": FLAT, "domeflat": FLAT, "dome-flat": FLAT}
    wanted = list(dict.fromkeys(names.get(word, word.replace("-", " ")) for word in obs_types))
    procs = list(dict.fromkeys([*proc_types, *(["raw", "instcal"] if instcal else [])]))
    with show.Progress("archive") as progress:
        update = update_exposures(
            Archive(archive_url or None), data_dir, proposal_id, obs_types=wanted, proc_types=procs,
            dates=dates or None, instrument=instrument, progress=progress.files,
        )  # fmt: skip
    (data_dir / SKY_NAME).write_bytes(sky_map(update.table, ", ".join(proposal_id)))
    show.survey_update(update)


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


def _show_nights(table) -> None:
    from proc_decam_dagster.survey.night_summary import night_summary

    summary = night_summary(table)

    def by_band(row, kind: str) -> str:
        names = [n for n in summary.colnames if n.startswith(kind) and n != "science_seconds" and row[n]]
        return " ".join(f"{name.removeprefix(kind)}:{row[name]}" for name in names) or "0"

    rows = [
        (row["night"], row["zeros"], by_band(row, "flats_"), by_band(row, "science_"), row["lacks"] or "-")
        for row in summary
    ]
    show.table(("night", "zeros", "dome flats", "science", "lacks"), rows)
