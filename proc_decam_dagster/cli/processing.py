"""Commands that process: a proc type's steps, whole nights, templates."""

import functools
import os
from pathlib import Path

import click

from proc_decam_dagster.bridge.events import tell_dagster
from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.batch import batch_options
from proc_decam_dagster.cli.collections import parts
from proc_decam_dagster.cli.common import (
    Many,
    attempt_options,
    command,
    cores,
    image_dir_option,
    images_of,
    pipeline_dir_option,
    repo_argument,
    science_option,
    sciences,
    stack,
    template_options,
    where_option,
    workers_option,
)
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.proc_types import MIN_FRAMES

PROC_TYPES = ("bias", "flat", "drp", "science", "diff_drp")
"""What `night` takes; `survey.proc_types` knows them, this only tells a value from an argument."""
INJECTED = "injected"
calibration_options = stack(
    click.option(
        "--calib-from", cls=Many, split=True, accepts=lambda word: "=" in word, metavar="NIGHT|TYPE=NIGHT …",
        help="Night whose masters are used for those that are missing; bias=20190402 for one type.",
    ),
    click.option(
        "--calib-policy", type=click.Choice(["own", "nearest"]),
        help="Whether missing masters come from the nearest night.  [default: own, missing ones stop the night]",
    ),
    click.option("--calib-within", type=click.IntRange(1), metavar="DAYS", help="… if it is no further.  [default: 7]"),
    click.option(
        "--partial", is_flag=True,
        help="Certify the masters that succeeded even if others did not, and process the raws that have theirs.",
    ),
    click.option(
        "--min-frames", type=click.IntRange(1), metavar="N", default=MIN_FRAMES, show_default=True,
        help="Frames that a master must be made from to be certified.",
    ),
)  # fmt: skip


def _is_step(word: str) -> bool:
    return word.removeprefix("step")[:1].isdigit() and len(word.removeprefix("step")) <= 2 or "," in word


@command(
    "pipeline",
    example="J=24 proc-decam pipeline ./repo bias 20190401 --where \"instrument='DECam' and detector=1\"\n"
    "proc-decam pipeline ./repo drp 20190401 --steps 2a 2b",
)
@repo_argument
@click.argument("proc_type")
@click.argument("subset")
@template_options
@click.option("--steps", cls=Many, split=True, accepts=_is_step, metavar="STEP …", help="Only these.  [default: all]")
@where_option
@workers_option("Executions at once; steps of one chain follow one another, so this counts for `night`.")
@pipeline_dir_option
@science_option
@calibration_options
@attempt_options
@batch_options
def pipeline(
    repo, proc_type, subset, coadd_subset, template_type, steps, where, workers, pipeline_dir, science, calib_from,
    calib_policy, calib_within, partial, min_frames, attempts,
) -> None:  # fmt: skip
    """Run the steps of one proc type, and certify what it makes.

    SUBSET is a night; for coadd it is the coadd subset. The environment's J says how many processes run.
    """
    jobs, policy = cores(), _policy(calib_from, calib_policy, calib_within)
    row, subset, coadd_subset = parts(proc_type, subset, coadd_subset)
    chain = row.chain(subset, coadd_subset, template_type)
    row.select_steps(",".join(steps))
    from proc_decam_dagster.execution import run_pipeline, step_name
    from proc_decam_dagster.repository import open_repository

    kinds = sciences(science)
    for kind in kinds:
        step_name(row.name, "", kind)  # refused before anything runs
    repository, reports = open_repository(repo), []
    for kind in kinds:
        with show.Progress() as progress:
            report = run_pipeline(
                repository, row.name, subset, coadd_subset=coadd_subset, template_type=template_type,
                steps=list(steps) or None, where=where, science=kind, jobs=jobs, pipeline_dir=pipeline_dir,
                calibrations=policy, partial=partial, min_frames=min_frames, progress=progress.quanta, **attempts,
            )  # fmt: skip
        show.pipeline(report)
        tell_dagster(repository, report, _selected(where, steps))
        reports.append(report)
    if not all(r.ok for r in reports):
        raise SurveyError(
            f"{chain} is not complete ({'; '.join(r.why_not for r in reports if not r.ok)})",
            "every quantum to succeed, and what is made to be certified",
            "each failure above says what to do",
        )


@command(
    "night",
    example="J=24 proc-decam night ./repo ./data/exposures.ecsv --nights 20190401 -J 4\n"
    "proc-decam night ./repo 20190403 --proc-types flat drp --calib-policy nearest --calib-within 3\n"
    "proc-decam night ./repo 20190401 --proc-type diff_drp --coadd-subset 2019 --template-type meanclip",
)
@repo_argument
@click.argument("exposures", metavar="EXPOSURES|NIGHT")
@click.option("--nights", default=".*", show_default=True, help="Regular expression that nights must match as a whole.")
@click.option(
    "--proc-types", "--proc-type", cls=Many, split=True, accepts=lambda word: word.split(",")[0] in PROC_TYPES,
    default=["bias", "flat", "drp"], show_default=True, metavar="PROC_TYPE …",
    help="bias, flat, drp or science, diff_drp.",
)  # fmt: skip
@template_options
@where_option
@workers_option("Nights at once; with J cores each, J times this is the ceiling.")
@image_dir_option
@pipeline_dir_option
@science_option
@calibration_options
@attempt_options
@batch_options
def night(
    repo, exposures, nights, proc_types, coadd_subset, template_type, where, workers, image_dir, pipeline_dir, science,
    calib_from, calib_policy, calib_within, partial, min_frames, attempts,
) -> None:  # fmt: skip
    """Process nights: ingest, tag, chain, define visits, run the steps, certify calibrations.

    The second argument is an exposure table, or one night of a repository that knows its table. A night that fails
    does not stop the others. Calibrations are certified when they are complete; a night that lacks some stops, and
    names the nearest nights that have them. The exit code tells if all went well.
    """
    from proc_decam_dagster.survey.exposures import nights_of
    from proc_decam_dagster.survey.nights import is_night, matching_nights
    from proc_decam_dagster.survey.proc_types import proc_type as row_of

    jobs, policy = cores(), _policy(calib_from, calib_policy, calib_within)
    rows = [row_of(name) for name in proc_types]
    wrong = [r.name for r in rows if "subset" not in r.axes]
    if wrong:
        raise click.UsageError(f"--proc-types: {', '.join(wrong)} is not made by the night: use `proc-decam coadd`")
    for row in rows:
        row.chain("night", coadd_subset, template_type)
    known = is_night(exposures) and not Path(exposures).exists()
    table, images = (None, image_dir) if known else _table_and_images(Path(exposures), image_dir, rows)
    from proc_decam_dagster.execution import run_nights
    from proc_decam_dagster.repository import open_repository

    repository = open_repository(repo)
    if table is None:
        chosen = matching_nights(exposures, nights_of(repository.known_exposures()))
        chosen = matching_nights(nights, chosen)
    else:
        chosen = matching_nights(nights, nights_of(table))
        repository.remember_exposures(table)
    workers = min(workers, len(chosen))
    jobs = jobs or max(1, (os.cpu_count() or 1) // workers)
    click.echo(f"{len(chosen)} nights, {workers} at once, {jobs} workers each", err=True)
    reports = []
    with show.Progress() as progress:
        for names, kind in _passes([r.name for r in rows], science):
            reports += run_nights(
                repository, chosen, names, executions=workers, jobs=jobs,
                finished=functools.partial(_tell, repository, where), exposures=table,
                image_dir=images, coadd_subset=coadd_subset, template_type=template_type, where=where, science=kind,
                pipeline_dir=pipeline_dir, calibrations=policy, partial=partial, min_frames=min_frames,
                progress=progress.quanta, **attempts,
            )  # fmt: skip
    show.nights(reports)
    bad = [r for r in reports if not r.ok]
    if bad:
        names = ", ".join(f"{r.night} {r.proc_type}" for r in bad[:10])
        raise SurveyError(
            f"{len(bad)} of {len(reports)} did not succeed ({names}); the first: {bad[0].why_not}",
            fix="what failed is told above, with what to do; then run the same command again",
        )


@command(
    "coadd",
    example='proc-decam coadd ./repo "2019*/drp" --coadd-subset 2019 --template-type meanclip --warp-coadd-name deep',
)
@repo_argument
@click.argument("subset")
@template_options
@click.option("--warp-coadd-name", default="deep", show_default=True, help="What the warps' dataset type starts with.")
@where_option
@click.option("--collections", cls=Many, split=True, metavar="CHAIN …", help="Only these of the drp chains.")
@click.option("--steps", cls=Many, split=True, accepts=_is_step, metavar="STEP …", help="Only these.  [default: all]")
@click.option("--max-warps", type=click.IntRange(1), help="The most warps of a patch; which are left out is recorded.")
@workers_option("Executions at once; a coadd is one.")
@pipeline_dir_option
@attempt_options
@batch_options
def coadd(
    repo,
    subset,
    coadd_subset,
    template_type,
    warp_coadd_name,
    where,
    collections,
    steps,
    max_warps,
    workers,
    pipeline_dir,
    attempts,
) -> None:
    """Make a template from the warps of all matching nights.

    SUBSET matches nights, with or without /drp: "2019*", "2019*/drp", 20190401. What is gathered is gathered anew each
    time. The environment's J says how many processes run.
    """
    from proc_decam_dagster.survey.proc_types import proc_type as row_of

    jobs, row = cores(), row_of("coadd")
    chain = row.chain("", coadd_subset, template_type)
    row.select_steps(",".join(steps))
    from proc_decam_dagster.execution import run_coadd
    from proc_decam_dagster.execution.coadd import coadd_subset_nights
    from proc_decam_dagster.repository import open_repository

    repository = open_repository(repo)
    nights = coadd_subset_nights(repository, subset)
    if collections:
        nights = _nights_of_chains(nights, collections)
    click.echo(f"{chain}: warps of {len(nights)} nights ({', '.join(nights[:10])}{' …' if len(nights) > 10 else ''})")
    with show.Progress() as progress:
        report = run_coadd(
            repository, "|".join(nights), coadd_subset, template_type, warp_coadd_name=warp_coadd_name, where=where,
            max_warps=max_warps, steps=list(steps) or None, jobs=jobs, pipeline_dir=pipeline_dir,
            progress=progress.quanta, **attempts,
        )  # fmt: skip
    show.pipeline(report)
    tell_dagster(repository, report, _selected(where, steps))
    if not report.ok:
        raise SurveyError(
            f"{chain} is not complete ({report.why_not})", "every quantum to succeed",
            "each failure above says what to do",
        )  # fmt: skip


def _table_and_images(file: Path, image_dir: Path | None, rows):
    """Return an exposure table, and the folder of its raw files if a proc type needs some."""
    from proc_decam_dagster.survey.exposures import read_exposures

    table = read_exposures(file)
    return table, images_of(file, image_dir) if any(r.obs_type for r in rows) else None


def _passes(names: list[str], science: str) -> list[tuple[list[str], str]]:
    """Return (proc types, science images) in the order to run: only differences know injected images."""
    clean = names if science != INJECTED else [n for n in names if n != "diff_drp"]
    injected = ["diff_drp"] if INJECTED in sciences(science) and "diff_drp" in names else []
    return [(p, kind) for p, kind in ((clean, "clean"), (injected, INJECTED)) if p]


def _nights_of_chains(nights: list[str], chains) -> list[str]:
    """Return the nights whose drp chains are among the given ones."""
    wanted = {c.removesuffix("/drp") for c in chains}
    unknown = sorted(wanted - set(nights))
    if unknown:
        raise SurveyError(
            f"--collections names {', '.join(unknown)}, which SUBSET does not match or has no warps",
            f"some of {', '.join(f'{n}/drp' for n in nights)}",
        )
    return [n for n in nights if n in wanted]


def _selected(where: str, steps=()) -> str:
    """Return in words what part of a chain was run; empty for all of it."""
    return " ".join(filter(None, [f"--where {where}" if where else "", f"--steps {' '.join(steps)}" if steps else ""]))


def _tell(repository, where: str, report) -> None:
    """Tell what became of a night and proc type, as soon as it is known."""
    click.echo(f"── {report.night} {report.proc_type}")
    if report.ingested is not None:
        show.ingested(report.ingested)
    if report.pipeline is not None:
        show.pipeline(report.pipeline)
        tell_dagster(repository, report.pipeline, report.error or _selected(where))
    if report.error:
        click.echo(f"  error: {report.error}")
    if report.left_out:
        click.echo(f"  nothing to do: {report.left_out}")


def _policy(calib_from, calib_policy: str | None, calib_within: int | None):
    """Return the policy on missing calibrations that the options describe; days alone mean the nearest night."""
    from proc_decam_dagster.survey.calibration_policy import DEFAULT_WITHIN_DAYS, CalibrationPolicy

    if calib_policy == "own" and calib_within:
        raise click.UsageError("--calib-within says how far the nearest night may be, but --calib-policy is own")
    policy = calib_policy or ("nearest" if calib_within else "own")
    return CalibrationPolicy.of(calib_from, policy, calib_within or DEFAULT_WITHIN_DAYS)
