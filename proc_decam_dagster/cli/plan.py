"""The command that shows what processing would take, before anything is run."""

import json
from collections import Counter
from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, command
from proc_decam_dagster.errors import SurveyError

SHOWN_REASONS = 12


@command(
    "plan",
    example="proc-decam plan ./data/exposures.ecsv\n"
    'proc-decam plan ./data/exposures.ecsv --repo ./repo --nights "201904.*" --proc-types bias flat drp\n'
    "proc-decam plan ./data/exposures.ecsv --repo ./repo --proc-types coadd diff_drp --coadd-subset 2019 "
    "--template-types meanclip",
)
@click.argument("exposures_file", type=click.Path(path_type=Path))
@click.option("--repo", type=click.Path(path_type=Path), help="Where it would run: what is done there is not counted.")
@click.option("--nights", default=".*", show_default=True, help="Only nights that match this regular expression.")
@click.option(
    "--proc-types", "--proc-type", cls=Many, split=True, default=("bias", "flat", "drp"), metavar="TYPE …",
    help="bias, flat, drp, coadd, diff_drp.  [default: bias, flat, drp]",
)  # fmt: skip
@click.option("--coadd-subset", default="", help="Name of the coadd subset, of coadd and diff_drp.")
@click.option("--template-types", cls=Many, split=True, metavar="TYPE …", help="Template types, of coadd and diff_drp.")
@click.option("--detectors", cls=Many, split=True, metavar="N …", help="Only these CCDs.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def plan(exposures_file, repo, nights, proc_types, coadd_subset, template_types, detectors, as_json) -> None:
    """Show what processing would take: GB to fetch and to write, core-hours, what lacks, what is skipped and why.

    Nothing is changed. Time and size are those of what this repository has processed so far, a CCD of an exposure
    (frame); where it has processed nothing of the kind yet, they are unknown.
    """
    from proc_decam_dagster.archive import downloaded_md5s
    from proc_decam_dagster.camera.detectors import DETECTORS
    from proc_decam_dagster.cli.common import images_of
    from proc_decam_dagster.execution import make_plan
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.survey.exposures import nights_of, read_exposures
    from proc_decam_dagster.survey.nights import matching_nights
    from proc_decam_dagster.survey.proc_types import proc_type

    wrong = [d for d in detectors if not d.isdigit() or int(d) not in DETECTORS]
    if wrong:
        raise click.UsageError(f"--detectors: {', '.join(wrong)} is none of 1 to 62")
    rows = [proc_type(name) for name in proc_types]
    if any("template_type" in row.axes for row in rows) and not (coadd_subset and template_types):
        raise click.UsageError("coadd and diff_drp are planned for --coadd-subset and --template-types: give both")
    table = read_exposures(exposures_file)
    try:
        verified = downloaded_md5s(images_of(exposures_file, None), exposures_file)
    except SurveyError:  # nothing was downloaded yet
        verified = set()
    made = make_plan(
        table, matching_nights(nights, nights_of(table)), proc_types,
        repository=open_repository(repo) if repo else None, verified=verified,
        coadds=[(coadd_subset, t) for t in template_types],
        detectors=[int(d) for d in detectors],
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(made.to_dict(), indent=1))
        return
    show_plan(made)


def show_plan(made) -> None:
    """Print a plan: a line a chain, the sums, what lacks, what is skipped."""
    header = ("chain", "exposures", "frames", "done", "skipped", "to do", "GB to fetch", "GB to write", "core-hours")
    rows = [
        (
            c.chain, c.exposures, c.frames, c.done, c.failed + c.excluded, c.to_do, _figure(c.fetch_gb),
            _figure(c.write_gb), _figure(c.core_hours),
        )
        for c in made.chains
    ]  # fmt: skip
    sums = [made.total(n) for n in ("exposures", "frames", "done")]
    sums += [made.total("failed") + made.total("excluded"), made.total("to_do")]
    show.table(header, [*rows, ("in all", *map(int, sums), *(_figure(made.total(n)) for n in COSTS))])
    for name in made.unknown:
        click.echo(f"{name}: time and size are unknown, this repository has processed none yet")
    _show_reasons("lacks", Counter(f"{c.night}: {text}" for c in made.chains for text in c.lacks))
    _show_reasons("skipped", Counter(f"{c.chain}: {text}" for c in made.chains for text in c.why))


COSTS = ("fetch_gb", "write_gb", "core_hours")


def _figure(value: float) -> str:
    return "?" if value != value else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _show_reasons(what: str, reasons: Counter) -> None:
    for text in list(reasons)[:SHOWN_REASONS]:
        click.echo(f"{what}: {text}")
    if len(reasons) > SHOWN_REASONS:
        click.echo(f"… and {len(reasons) - SHOWN_REASONS} more (--json gives all)")
