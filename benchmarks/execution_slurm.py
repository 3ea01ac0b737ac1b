"""Figures of a step of trivial quanta on Slurm, beside the same step on this machine's own workers."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
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
    """Run a step on a Slurm cluster that the tests' own code starts here; nothing where Slurm is not installed."""
    from tests.slurm_cluster import PROGRAMS, SlurmCluster

    if not all(shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for program in PROGRAMS):
        print("execution: no Slurm is installed (Debian: slurm-wlm munge): its figures are left out", file=sys.stderr)
        return
    site = survey.folder / "site.yaml"
    site.write_text(SITE.format(cores=cores))
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmCluster(Path(folder)) as cluster:
        survey.environment["SLURM_CONF"] = str(cluster.configuration)
        start = time.perf_counter()
        cluster.run("srun", "--ntasks=1", "true")
        startup = time.perf_counter() - start
        seconds = survey.run("python", "-c", STEP, survey.root, night, survey.pipeline, str(site))
        del survey.environment["SLURM_CONF"]
    number = exposures * len(DETECTORS)
    if survey.made(night) != number:
        raise SystemExit(f"error: {survey.made(night)} outputs of {number} on Slurm")
    bound = 2 * survey.many + startup
    yield figure(f"{number} trivial quanta on Slurm, {cores} workers", round(seconds, 1), "s", round(bound, 1),
                 seconds <= bound, f"on this machine, J={cores}", round(survey.many, 1),
                 round(seconds / survey.many, 2))  # fmt: skip
    yield figure("Slurm's own start-up: a job of a program that does nothing", round(startup, 2), "s")
