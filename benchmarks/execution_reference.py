"""The reference's `execute`, re-enacted on this middleware: a process for each thing that it starts a process for.

``python execution_reference.py REPO CHAIN PIPELINE CORES FOLDER``: while a graph check finds quanta that have not
succeeded, `pipetask qgraph` builds the graph again, `bps submit` runs it on Parsl, a process looks for failures to
repeat, and the chain takes the RUN in. The check and the look at failures are done by our commands of that name.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import yaml
from lsst.daf.butler import Butler

BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {
    # Where BPS looks for programs and its own files; EUPS sets these, packages from wheels do not.
    **{f"{package}_DIR": sys.prefix for package in ("CTRL_MPEXEC", "DAF_BUTLER", "CTRL_BPS", "PIPE_BASE")},
    # Where Parsl looks for its own programs: as in an environment that was activated.
    "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
}


def started(*command: str) -> subprocess.CompletedProcess:
    """Run a program of this environment to its end."""
    return subprocess.run([str(BIN / command[0]), *command[1:]], capture_output=True, text=True, env=ENVIRONMENT)


def required(*command: str) -> None:
    """Run a program that must succeed."""
    done = started(*command)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def bps_configuration(folder: Path, cores: int) -> Path:
    """Write what `bps submit` reads: the reference's, with this machine's cores and a final job of one."""
    path = folder / "submit.yaml"
    site = {"class": "lsst.ctrl.bps.parsl.sites.Local", "cores": cores}
    path.write_text(
        yaml.safe_dump(
            {
                "wmsServiceClass": "lsst.ctrl.bps.parsl.ParslService", "computeSite": "local",
                "project": "bench", "campaign": "bench", "operator": "bench",
                "submitPath": f"{folder}/submit/{{outputRun}}", "site": {"local": site},
                "payload": {"payloadName": "bench"}, "finalJob": {"requestCpus": 1},
            }
        )
    )  # fmt: skip
    return path


def main() -> None:
    """Run a step until the check finds nothing."""
    repo, chain, pipeline, cores, folder = sys.argv[1:]
    file, _, step = pipeline.partition("#")
    submit = bps_configuration(Path(folder), int(cores))
    check = (
        "proc-decam", "qgraph", "-b", repo, "-i", chain, "--output-run", "dummy", "-p", pipeline,
        "--skip-existing-in", chain, "--skip-failures",
    )  # fmt: skip
    rounds = 0
    while (checked := started(*check)).returncode == 0:
        rounds += 1
        run = f"{chain}/{Path(file).stem}/{step}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        graph = f"{folder}/{run.replace('/', '_')}.qg"
        required(
            "pipetask", "--long-log", "--log-level", "VERBOSE", "qgraph", "-b", repo, "-p", pipeline, "-i", chain,
            "--output-run", run, "--save-qgraph", graph, "--qgraph-datastore-records", "--skip-existing-in", chain,
        )  # fmt: skip
        required(
            "bps", "--long-log", "--log-level", "VERBOSE", "submit", str(submit), "-b", repo, "-i", chain,
            "--output-run", run, "--qgraph", graph,
        )  # fmt: skip
        required("proc-decam", "retries", repo, run)
        with Butler.from_config(repo, writeable=True) as butler:
            butler.collections.prepend_chain(chain, run)
    if "quantum graph" not in checked.stderr or "is empty" not in checked.stderr:
        raise SystemExit(f"the graph check failed: {checked.stderr[-3000:]}")
    print(f"{rounds} rounds")


if __name__ == "__main__":
    main()
