"""Slurm's own commands: a job submitted, looked for, cancelled; what to do while its controller does not answer."""

import logging
import shlex
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from proc_decam_dagster.errors import SurveyError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 900.0
"""How long a controller that does not answer is waited for: a restart takes minutes."""
_PAUSE = 2.0
_GONE = "Invalid job id"


def require() -> None:
    """Raise `SurveyError` where Slurm's commands are not installed."""
    if shutil.which("sbatch") is None:
        raise SurveyError(
            "there is no sbatch here", "a machine that submits to Slurm", "leave out --slurm and --pipeline-slurm"
        )


def _ask(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command of Slurm's until its controller answers; return what it says."""
    require()
    until, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
            error = done.stderr.strip()
        except subprocess.TimeoutExpired:
            done, error = None, "no answer in 120 s"
        if done is not None and (done.returncode == 0 or _GONE in error):
            return done.stdout
        if not any(s in error for s in ("ontact", "onnect", "ocket", "imed out", "no answer", "not responding")):
            raise SurveyError(f"{command[0]}: {error or done.returncode}", fix="correct the site file")
        if time.monotonic() > until:
            raise SurveyError(f"Slurm does not answer: {error}", fix="run the same command again when it does")
        if not told:
            log.warning("Slurm does not answer (%s); waiting for it", error.splitlines()[-1] if error else command[0])
            told = True
        time.sleep(_PAUSE)


def submit(script: Path, environment: Mapping[str, str] | None = None) -> str:
    """Submit a batch script, which gets this environment; return the job's id."""
    return _ask(["sbatch", "--parsable", str(script)], environment).strip().split(";")[0]


def write_script(
    path: Path, command: list[str], *, name: str, output: Path, options: str = "", init: str = "",
    folder: Path | None = None,
) -> Path:  # fmt: skip
    """Write a batch script that runs a command.

    Parameters
    ----------
    path, output : `pathlib.Path`
        The script, and what its output is written to.
    command : `list` [`str`]
        What to run.
    name : `str`
        The job's name.
    options, init : `str`, optional
        Lines of ``#SBATCH``, and shell commands before it.
    folder : `pathlib.Path`, optional
        Where it runs; where the job was submitted if not given.
    """
    change = [f"cd {shlex.quote(str(folder))} || exit 1"] if folder else []
    lines = [
        "#!/bin/bash", f"#SBATCH --job-name={name}", f"#SBATCH --output={output}", "#SBATCH --open-mode=append",
        *(line for line in options.splitlines() if line.strip()), init, *change, f"exec {shlex.join(command)}",
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def in_queue(*, name: str = "", ids: Collection[str] = ()) -> set[str]:
    """Return the ids of one's jobs that wait or run: those of a name, or those of the given ids."""
    listed = _ask(["squeue", "--me", "--noheader", "--format=%A %j"]).splitlines()
    jobs = dict(line.split(maxsplit=1) for line in listed if " " in line)
    return {job for job, called in jobs.items() if called.strip() == name or job in ids}


def cancel(ids: Collection[str], wait_seconds: float = 120.0) -> None:
    """Cancel jobs and wait until they are gone: what they run must not go on beside what follows them."""
    left = in_queue(ids=ids) if ids else set()
    until = time.monotonic() + wait_seconds
    while left:
        _ask(["scancel", *sorted(left)])
        time.sleep(0.5)
        left = in_queue(ids=ids)
        if left and time.monotonic() > until:
            raise SurveyError(
                f"Slurm jobs {', '.join(sorted(left))} do not end", fix="`scancel` them, then run the command again"
            )
