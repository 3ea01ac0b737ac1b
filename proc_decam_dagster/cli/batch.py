"""Where a command's work is run: options for BPS and Slurm, the command itself as a Slurm job, and cancelling."""

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from proc_decam_dagster.cli.common import command, repo_argument, stack
from proc_decam_dagster.errors import SurveyError

PROVIDERS = ("local", "slurm")
"""Sites that the packaged `submit.yaml` holds; all others come from a site file."""


def batch_options(function: Callable) -> Callable:
    """Add the options on where quanta are run; put below `attempt_options`, whose ``attempts`` get the back end."""

    @functools.wraps(function)
    def with_back_end(
        *args: Any, backend: str | None, site: str | None, slurm: bool, provider: str | None, pipeline_slurm: bool,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        where = _site(backend, site, slurm, provider)
        if pipeline_slurm:
            return _submit_command(Path(kwargs["repo"]), where, kwargs.get("pipeline_dir"))
        if where is not None:
            from proc_decam_dagster.execution.bps import Bps
            from proc_decam_dagster.execution.bps.slurm import require

            if where == "slurm":
                require()
            kwargs["attempts"] |= {"backend": Bps(where, kwargs.get("pipeline_dir"))}
        return function(*args, **kwargs)

    return stack(
        click.option(
            "--backend", type=click.Choice(["local", "bps"]),
            help="Run quanta in warm workers of this command, or in jobs by BPS.  [default: local]",
        ),
        click.option("--slurm", is_flag=True, help="Run quanta in Slurm jobs: BPS with Parsl's Slurm site."),
        click.option(
            "--site", metavar="FILE|NAME",
            help="Run quanta by BPS on this site; deploy/sites has examples.  [default: PROC_DECAM_SITE]",
        ),
        click.option("--provider", metavar="local|slurm", help="Run quanta by BPS with Parsl, here or in Slurm jobs."),
        click.option(
            "--pipeline-slurm", is_flag=True,
            help="Submit this command itself as a Slurm job, tell its id, and end; `driverJob` of the site says how.",
        ),
    )(with_back_end)  # fmt: skip


def _site(backend: str | None, site: str | None, slurm: bool, provider: str | None) -> str | None:
    """Return the site for BPS that options mean, empty for the default one; `None` for the local back end."""
    if provider is not None and provider not in PROVIDERS:
        raise click.UsageError(
            f"--provider {provider} is unknown, expected {' or '.join(PROVIDERS)}; "
            "what else Parsl can do is said in a site file (--site)"
        )
    named = [n for n in (site, "slurm" if slurm else None, provider) if n]
    if len(set(named)) > 1:
        raise click.UsageError(f"--slurm, --site and --provider name different sites: {', '.join(sorted(set(named)))}")
    if backend == "local":
        if named:
            raise click.UsageError(f"--backend local runs nothing on {named[0]}: leave one of the two out")
        return None
    if named:
        return named[0]
    return "" if backend == "bps" else None


def _submit_command(repo: Path, site: str | None, pipeline_dir: Path | None) -> None:
    """Submit the command that was typed as a Slurm job."""
    from proc_decam_dagster.execution.bps import slurm
    from proc_decam_dagster.execution.bps.configuration import environment, load_settings
    from proc_decam_dagster.repository import open_repository

    slurm.require()
    context = click.get_current_context()
    words = [w for w in context.meta["words"] if w != "--pipeline-slurm"]
    job = load_settings(site or "", pipeline_dir).values.get("driverJob") or {}
    folder = Path(open_repository(repo).state_dir) / "drivers"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{context.info_name}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    output = folder / f"{name}.log"
    script = slurm.write_script(
        folder / f"{name}.sh", [sys.executable, "-m", "proc_decam_dagster.cli.main", context.info_name, *words],
        name=f"proc-decam-{context.info_name}", output=output, options=job.get("options", ""),
        init=job.get("worker_init", ""),
    )  # fmt: skip
    number = slurm.submit(script, environment())
    click.echo(f"submitted as Slurm job {number}; it writes to {output}; `scancel {number}` interrupts it")


@command("cancel", example="proc-decam cancel ./repo 20190401/drp")
@repo_argument
@click.argument("chain", default="")
def cancel(repo, chain) -> None:
    """End what BPS runs of a chain, or of all chains.

    What had finished stays, and is registered by the command that waits for it, or by the next one on that chain.
    """
    from proc_decam_dagster.execution.bps import cancel as end
    from proc_decam_dagster.repository import open_repository

    ended = end(open_repository(repo), chain)
    for workflow in ended:
        click.echo(f"cancelled {workflow.run}")
    if not ended:
        raise SurveyError(f"BPS runs nothing of {chain or repo}", fix="`squeue` shows what else runs on Slurm")
