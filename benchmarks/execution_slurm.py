"""Figures of a step of trivial quanta on Slurm, beside the same step on this machine's own workers."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from archive import figure

from proc_decam_dagster.camera.detectors import DETECTORS

if TYPE_CHECKING:
    from execution import Survey

STEP = """
import sys
from proc_decam_dagster.execution import run_step
from proc_decam_dagster.execution.bps import Bps
from proc_decam_dagster.repository import open_repository
root, night, pipeline, site = sys.argv[1:]
sys.exit(not run_step(open_repository(root), "bias", night, pipeline=pipeline, backend=Bps(site)).ok)
"""
SITE = """
computeSite: bench
requestMemory: 1024
site:
  bench:
    class: proc_decam_dagster.execution.bps.sites.Slurm
    nodes: 1
    cores_per_node: {cores}
    walltime: "00:20:00"
    address: 127.0.0.1
    poll_seconds: 2
"""
"""A job on one node, with as many workers as the step on this machine has."""


def slurm_figures(survey: "Survey", night: str, exposures: int, cores: int) -> Iterator[dict]:
    """Run a step on the Slurm that ``SLURM_CONF`` names; nothing where there is none."""
    if shutil.which("srun") is None or subprocess.run(["sinfo", "-h"], capture_output=True).returncode:
        print("execution: no Slurm answers here (SLURM_CONF): its figures are left out", file=sys.stderr)
        return
    start = time.perf_counter()
    subprocess.run(["srun", "--ntasks=1", "true"], check=True, cwd=survey.folder)
    startup = time.perf_counter() - start
    site = survey.folder / "site.yaml"
    site.write_text(SITE.format(cores=cores))
    number = exposures * len(DETECTORS)
    pipeline = survey.pipeline
    seconds = survey.run("python", "-c", STEP, survey.root, night, pipeline, str(site))
    if survey.made(night) != number:
        raise SystemExit(f"error: {survey.made(night)} outputs of {number} on Slurm")
    bound = 2 * survey.many + startup
    what = f"{number} trivial quanta on Slurm, {cores} workers"
    yield figure(what, round(seconds, 1), "s", round(bound, 1), seconds <= bound, f"on this machine, J={cores}",
                 round(survey.many, 1), round(seconds / survey.many, 2))  # fmt: skip
    yield figure("Slurm's own start-up: a job of one program that does nothing", round(startup, 2), "s")
    print(f"execution: Slurm, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
