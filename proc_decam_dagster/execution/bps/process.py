"""The detached program of one submission: `bps submit`, and then whatever its workload management system needs.

With Parsl this process is the workflow: it lives until the last job has ended. Other systems have taken the workflow
over when `submit` returns; this process then asks them now and then how it stands, so that to a driver all look alike.
Run as ``python -m proc_decam_dagster.execution.bps.process DIRECTORY``. Its lock is held as long as it lives.
"""

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

from proc_decam_dagster.execution.bps import slurm, submission

POLL_SECONDS = 5.0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that the end is written down; `Submission.clean_up` ends what is left


def run(directory: Path) -> None:
    """Submit a workflow and wait for its end."""
    from lsst.ctrl.bps.drivers import prepare_driver
    from lsst.ctrl.bps.submit import submit

    known = submission.read_json(directory / submission.PROCESS)
    told = {
        "host": socket.gethostname(), "pid": os.getpid(), "boot": submission.boot_id(), "since": time.time(),
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
    }  # fmt: skip
    submission.write_json(directory / submission.PROCESS, known | told)
    if not known.get("run_id"):
        config, workflow = prepare_driver(str(directory / submission.CONFIG))
        submit(config, workflow)
        if workflow.run_id is None:  # it has run in here
            return
        known = told | {"run_id": str(workflow.run_id), "service": config["wmsServiceClass"]}
        submission.write_json(directory / submission.PROCESS, known)
    _wait(known["service"], known["run_id"])


def _wait(service: str, run_id: str) -> None:
    """Wait until a workload management system says that a workflow has ended; one that does not answer is asked again.

    Raises
    ------
    Exception
        What the plug-in raises, if it does so for longer than `slurm.PATIENCE_SECONDS`.
    """
    from lsst.ctrl.bps import WmsStates
    from lsst.ctrl.bps.status import status

    answered = time.monotonic()
    while True:
        try:
            state = status(service, run_id)[0]
        except Exception as error:
            if time.monotonic() - answered > slurm.PATIENCE_SECONDS:
                raise
            print(f"{service} does not answer ({type(error).__name__}: {error}); asking again", flush=True)
        else:
            if state in (WmsStates.SUCCEEDED, WmsStates.FAILED, WmsStates.DELETED):
                return
            answered = time.monotonic()
        time.sleep(POLL_SECONDS)


def main() -> None:
    """Run the submission that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--lock", type=int, help="descriptor of the lock file, locked by who started this")
    given = parser.parse_args()
    directory: Path = given.directory
    if given.lock is None:
        for _ in range(10):
            if (lock := submission.take_lock(directory)) is not None:
                break
            time.sleep(0.5)  # a driver that looks whether we live holds it for a moment
        else:
            sys.exit(f"another process runs {directory}")
    else:
        lock = given.lock
    os.set_inheritable(lock, False)  # what this process starts must not seem to be it
    signal.signal(signal.SIGTERM, _terminate)
    error = ""
    try:
        run(directory)
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        submission.write_json(directory / submission.ENDED, {"time": time.time(), "error": error})


if __name__ == "__main__":
    main()
