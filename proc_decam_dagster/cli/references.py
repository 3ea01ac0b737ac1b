"""Commands that ingest what a survey is reduced with: defects, reference catalogues, synthetic sources."""

from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.common import Many, command, repo_argument

CATALOGUES = ("ps1", "gaia_dr3", "gaia_dr2")


@command("defects", example="proc-decam defects ./repo ./data/bpm")
@repo_argument
@click.argument("bpm_path", type=click.Path(path_type=Path, file_okay=False))
@click.option("--calib-collection", default="DECam/calib_bpm", show_default=True, help="Where they are certified.")
@click.option("--run-prefix", default="DECam/calib_bpm", show_default=True, help="Start of the names of their RUNs.")
@click.option("--bad-dataset", default="defects", show_default=True, help="Dataset type of bad pixels.")
@click.option("--suspect-dataset", default="suspectMask", show_default=True, help="Dataset type of suspect pixels.")
@click.option("--detectors", cls=Many, split=True, accepts=str.isdigit, metavar="N …", help="Only these.")
@click.option(
    "--bpm-url", envvar="PROC_DECAM_BPM_URL", default="",
    help="Site that masks are fetched from which BPM_PATH lacks.  [default: the survey team's]",
)  # fmt: skip
def defects(
    repo, bpm_path, calib_collection, run_prefix, bad_dataset, suspect_dataset, detectors, bpm_url
) -> None:  # fmt: skip
    """Ingest bad-pixel masks as defects, certified from 1970 to 2100.

    BPM_PATH holds the masks of the Community Pipeline (cp/) and of DES (des/); those that it lacks are fetched.
    """
    from proc_decam_dagster.archive import fetch_masks
    from proc_decam_dagster.repository import ingest_defects, open_repository
    from proc_decam_dagster.repository.defects import missing_masks

    repository = open_repository(repo)
    wanted = [int(d) for d in detectors] or None
    if missing := missing_masks(bpm_path, wanted):
        click.echo(f"{bpm_path} lacks {len(missing)} masks, which are fetched now", err=True)
        with show.Progress("masks") as progress:
            fetch_masks(bpm_path, bpm_url or None, progress=progress.files)
    report = ingest_defects(
        repository, bpm_path, detectors=wanted, calib_collection=calib_collection,
        run_prefix=run_prefix, bad_dataset=bad_dataset, suspect_dataset=suspect_dataset,
    )  # fmt: skip
    show.table(
        ("dataset", "detectors", "pixels", "boxes"),
        [
            (bad_dataset, report.detectors, report.bad_pixels, report.bad_boxes),
            (suspect_dataset, report.detectors, report.suspect_pixels, report.suspect_boxes),
        ],
    )
    click.echo(f"certified into {calib_collection}")


@command(
    "refcats",
    example="proc-decam refcats ./repo ./data/exposures.ecsv\n"
    "proc-decam refcats ./repo ./data/exposures.ecsv --shards /somewhere/refcats\n"
    "proc-decam refcats ./repo ./data/exposures.ecsv --source tap --catalogues gaia_dr3",
)
@repo_argument
@click.argument("exposures_file", metavar="EXPOSURES", type=click.Path(path_type=Path))
@click.option(
    "--shards", type=click.Path(path_type=Path, file_okay=False),
    help="Use the shards in this folder (<catalogue>/<htm7 id>.fits) rather than fetch any.",
)  # fmt: skip
@click.option(
    "--source", type=click.Choice(["shards", "tap"]), default="shards", show_default=True,
    help="Fetch shards that are ready, or make them from public TAP services (gaia_dr3, ps1).",
)  # fmt: skip
@click.option(
    "--tap-url", "tap_urls", cls=Many, accepts=lambda word: "://" in word, metavar="[NAME=]URL …",
    help="TAP service, of all catalogues or of one.  [default: Data Lab's for gaia_dr3, MAST's for ps1]",
)  # fmt: skip
@click.option(
    "--tap-table", "tap_tables", cls=Many, accepts=lambda word: "=" in word or "." in word, metavar="[NAME=]TABLE …",
    help="The catalogue's table there, with the columns of Gaia's gaia_source or of PS1's MeanObjectView.",
)  # fmt: skip
@click.option(
    "--refcat-url", envvar="PROC_DECAM_REFCAT_URL", default="", help="Site of the shards.  [default: the survey team's]"
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where fetched shards go.  [default: refcats beside the table]"
)
@click.option(
    "--catalogues", cls=Many, split=True, accepts=lambda word: word in CATALOGUES, metavar="NAME …",
    help="Some of ps1, gaia_dr3, gaia_dr2.  [default: all that there are]",
)  # fmt: skip
def refcats(
    repo, exposures_file, shards, source, tap_urls, tap_tables, refcat_url, directory, catalogues
) -> None:  # fmt: skip
    """Fetch or make, and ingest, the footprint's reference catalogues, chained as `refcats`.

    A map of the footprint's trixels, those that are there and those that are not, is written to refcats_coverage.png
    beside the table.
    """
    from proc_decam_dagster.archive import fetch_refcats, given_shards, make_shards, shards_for
    from proc_decam_dagster.archive.shard_maker import SOURCES
    from proc_decam_dagster.report import coverage_map
    from proc_decam_dagster.report.sky import COVERAGE_NAME
    from proc_decam_dagster.survey.datasets import REFCATS
    from proc_decam_dagster.survey.exposures import read_exposures

    unknown = sorted(set(catalogues) - set(CATALOGUES))
    if unknown:
        raise click.UsageError(f"--catalogues: {', '.join(unknown)} is none of {', '.join(CATALOGUES)}")
    if (tap_urls or tap_tables) and source != "tap":
        raise click.UsageError("--tap-url and --tap-table go with --source tap")
    names = [REFCATS[c] for c in catalogues] or None
    table = read_exposures(exposures_file)
    from proc_decam_dagster.repository import ingest_refcats, open_repository

    repository = open_repository(repo)
    folder = exposures_file.absolute().parent
    if shards:
        files = given_shards(shards, **({"names": names} if names else {}))
        files = _in_footprint(files, table, shards)
    else:
        with show.Progress("shards") as progress:
            how = {"names": names, "progress": progress.files}
            if source == "tap":
                urls, tables = _by_catalogue(tap_urls, "--tap-url"), _by_catalogue(tap_tables, "--tap-table")
                files = make_shards(table, directory or folder / "refcats", urls=urls, tables=tables, **how)
            else:
                files = fetch_refcats(table, directory or folder / "refcats", refcat_url or None, **how)
    counts = ingest_refcats(repository, files)
    wanted = shards_for(table)
    expected = names or (SOURCES if source == "tap" and not shards else files)
    present = {name: [int(p.stem) for p in files.get(name, ())] for name in expected}
    (folder / COVERAGE_NAME).write_bytes(coverage_map(table, wanted, present))
    rows = [(n, len(wanted), len(ids), len(set(wanted) - set(ids)), counts.get(n, 0)) for n, ids in present.items()]
    show.table(("catalogue", "footprint", "there", "missing", "new"), rows)
    click.echo(f"map of the footprint: {folder / COVERAGE_NAME}")


@command("fakes", example="proc-decam fakes ./repo path/to/fakes.fits")
@repo_argument
@click.argument("fakes_file", metavar="FAKES", type=click.Path(path_type=Path))
@click.option("--collection", default="fakes", show_default=True, help="Collection.")
def fakes(repo, fakes_file, collection) -> None:
    """Ingest a table of synthetic sources.

    FAKES is any table that astropy reads, with columns RA, DEC (degrees), MAG (AB), EXPNUM and, unless it is VR, BAND.
    """
    from proc_decam_dagster.repository import ingest_fakes, open_repository

    counts = ingest_fakes(open_repository(repo), fakes_file, collection=collection)
    show.table(("band", "fakes"), sorted(counts.items()))


def _in_footprint(files, table, folder):
    """Return the shards that the survey's fields touch."""
    from proc_decam_dagster.archive import shards_for
    from proc_decam_dagster.errors import SurveyError

    wanted = set(shards_for(table))
    kept = {name: [p for p in paths if p.stem.isdigit() and int(p.stem) in wanted] for name, paths in files.items()}
    kept = {name: paths for name, paths in kept.items() if paths}
    if not kept:
        some = ", ".join(map(str, sorted(wanted)[:10]))
        raise SurveyError(f"{folder} holds no shard of the survey's footprint", f"some of {some} …")
    return kept


def _by_catalogue(words, option) -> dict[str, str]:
    """Return values given as ``NAME=VALUE``, or for all catalogues at once, by dataset type name."""
    from proc_decam_dagster.survey.datasets import REFCATS

    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in REFCATS:
            values[REFCATS[name]] = value
        elif "://" in name or not equals:  # an address may hold an equals sign
            values |= {full: word for full in REFCATS.values() if full not in values}
        else:
            raise click.UsageError(f"{option}: {name} is none of {', '.join(REFCATS)}")
    return values
