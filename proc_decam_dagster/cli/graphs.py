"""Commands about one step: run it until complete, build its graph, give its failures another turn."""

from functools import partial
from pathlib import Path

import click

from proc_decam_dagster.cli import show
from proc_decam_dagster.cli.batch import batch_options
from proc_decam_dagster.cli.common import (
    attempt_options,
    command,
    cores,
    pipeline_dir_option,
    repo_argument,
    science_option,
    sciences,
    where_option,
)
from proc_decam_dagster.errors import SurveyError


@command(
    "execute",
    example="proc-decam execute ./repo 20190401/bias --pipeline pipelines/bias.yaml#step1 "
    "--where \"instrument='DECam' and detector=1\"",
)
@repo_argument
@click.argument("parent")
@click.option("--pipeline", metavar="FILE[#STEP]", help="Pipeline and step.  [default: PARENT's, all steps]")
@where_option
@click.option("--no-skip-failures", is_flag=True, help="Run again what has failed for good.")
@click.option("--no-loop", is_flag=True, help="Build and run one graph only.")
@click.option("--no-trigger-retry", is_flag=True, help="Do not repeat failures that may pass (memory, input/output).")
@pipeline_dir_option
@science_option
@attempt_options
@batch_options
def execute(
    repo, parent, pipeline, where, no_skip_failures, no_loop, no_trigger_retry, pipeline_dir, science, attempts,
) -> None:  # fmt: skip
    """Run one step, or all steps, of a chain until it is complete.

    PARENT is the chain, for instance 20190401/bias. `pipelines/NAME.yaml` means the packaged pipeline wherever the
    command is typed; `./…` or an absolute path means that file. The environment's J says how many processes run.
    """
    from proc_decam_dagster.survey.collections import parse_chain

    jobs = cores()
    try:
        chain = parse_chain(parent)
    except ValueError:
        raise SurveyError(
            f"{parent!r} is not the name of a chain", "for instance 20190401/bias or 2019/meanclip/coadd",
            "`proc-decam collection` makes chains",
        ) from None  # fmt: skip
    from proc_decam_dagster.execution import WorkerPool, run_step, step_name
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.survey.proc_types import proc_type

    for kind in sciences(science):
        step_name(chain.proc_type, "", kind)  # refused before anything runs
    repository = open_repository(repo)
    file, _, step = (pipeline or "").partition("#")
    steps = [step] if step or pipeline else proc_type(chain.proc_type).steps
    reports = []
    with WorkerPool(jobs) as pool, show.Progress() as progress:
        for name in steps:
            for kind in sciences(science):
                reports.append(
                    run_step(
                        repository,
                        chain.proc_type,
                        chain.subset,
                        name,
                        coadd_subset=chain.coadd_subset,
                        template_type=chain.template_type,
                        where=where,
                        science=kind,
                        pool=pool,
                        pipeline=file or None,
                        pipeline_dir=pipeline_dir,
                        skip_failures=not no_skip_failures,
                        trigger_retry=not no_trigger_retry,
                        loop=not no_loop,
                        progress=progress.quanta,
                        **attempts,
                    )  # fmt: skip
                )
    show.steps(reports)
    fail_unless(reports, parent)


@command(
    "qgraph",
    example="proc-decam qgraph -b ./repo -p pipelines/bias.yaml#step1 -i 20190401/bias --output-run u/me/try "
    '-d "detector=1" --save-qgraph step1.qg',
)
@click.option(
    "-b", "--butler-config", "--repo", "repo", type=click.Path(path_type=Path), required=True, help="Repository."
)
@click.option("-p", "--pipeline", required=True, metavar="FILE[#STEP]", help="Pipeline and step.")
@click.option("-i", "--input", "chain", required=True, help="Collection that inputs are looked for in.")
@click.option("--output-run", help="RUN that outputs would go to.  [default: as `execute` would name it]")
@click.option("-d", "--data-query", "where", default="", help="Butler query that restricts the data.")
@click.option("--skip-existing-in", help="Leave out quanta that succeeded in this collection.")
@click.option("--skip-failures", is_flag=True, help="Leave out quanta that failed: that have a log but no metadata.")
@click.option("--save-qgraph", type=click.Path(path_type=Path, dir_okay=False), help="Write the graph to this file.")
@pipeline_dir_option
def qgraph(
    repo, pipeline, chain, output_run, where, skip_existing_in, skip_failures, save_qgraph, pipeline_dir
) -> None:  # fmt: skip
    """Build the quantum graph of a step, and fail if it is empty. `execute` needs no graph made before."""
    from proc_decam_dagster.execution import Ledger, pipeline_path
    from proc_decam_dagster.execution.graph import build_graph, load_pipeline
    from proc_decam_dagster.execution.rebuild import rebuild
    from proc_decam_dagster.repository import exclusion_terms, open_repository, skymap_where
    from proc_decam_dagster.survey.collections import run_name

    repository = open_repository(repo)
    path = pipeline_path(repository, pipeline, pipeline_dir)
    tasks, butler = load_pipeline(path), repository.butler()
    known = butler.collections.query("*", flatten_chains=False)
    for collection in filter(None, (chain, skip_existing_in)):
        if collection not in known:
            raise SurveyError(
                f"collection {collection} does not exist in {repository.root}", "an existing one",
                "`proc-decam collection` makes chains",
            )  # fmt: skip
    failed = set()
    if skip_failures:
        rebuild(repository, chain)
        failed = set(Ledger.of(repository).failed(chain, tasks.task_labels))
    file, _, step = path.partition("#")
    run = output_run or run_name(chain, Path(file).stem, step or "all")
    made = build_graph(
        butler, tasks, chain=chain, run=run, where=where, failed=failed,
        skip_existing_in=[skip_existing_in] if skip_existing_in else [],
        skymap=skymap_where(repository) if repository.settings.skymap else "",
        excluded=partial(exclusion_terms, repository),
    )  # fmt: skip
    quanta = {} if made.graph is None else made.graph.quanta_by_task
    left_out = (made.skipped, made.failed, made.blocked)
    show.table(
        ("task", "quanta", "done before", "failed before", "blocked"),
        [
            (label, len(quanta.get(label, ())), *(sum(name[0] == label for name in names) for names in left_out))
            for label in made.labels
        ],
    )
    if made.graph is None:
        raise SurveyError(f"the quantum graph of {pipeline} on {chain} is empty: all is done, or has failed before")
    if save_qgraph:
        save_qgraph.parent.mkdir(parents=True, exist_ok=True)
        made.components.write(str(save_qgraph.absolute()))
        click.echo(f"wrote {save_qgraph}")


@command("retries", example="proc-decam retries ./repo 20190401/bias/bias/step1/20190402T010203Z")
@repo_argument
@click.argument("run")
def retries(repo, run) -> None:
    """Let the failures of a RUN that may pass (memory, input/output, a lost worker) be tried again.

    `execute` repeats them by itself a limited number of times; after that they count as failed for good until this.
    """
    from proc_decam_dagster.execution.retries import release_failures
    from proc_decam_dagster.repository import open_repository

    released, kept = release_failures(open_repository(repo), run)
    for failure, what in [(f, "again") for f in released] + [(f, "failed for good") for f in kept]:
        data_id = " ".join(f"{k}={v}" for k, v in failure.data_id.items() if k != "instrument")
        click.echo(f"{what}: {failure.task} {data_id}: {failure.exception}: {failure.message[:200]}")
    click.echo(f"{len(released)} quanta can be run again, {len(kept)} stay failed")


def fail_unless(reports, what: str) -> None:
    """Raise unless every quantum of the steps succeeded."""
    bad = [r for r in reports if not r.ok]
    if bad:
        counts = ", ".join(f"{r.step}: {r.failed} failed, {r.blocked} blocked" for r in bad)
        raise SurveyError(
            f"{what} is not complete ({counts})", "every quantum to succeed", "each failure above says what to do"
        )
