"""`make dev`: the Dagster UI on the sample survey, or, where there is none, on the one that the environment names."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from survey_environment import CHECKOUT, Folders, apply, environment, prepare


def main() -> int:
    """Run `dagster dev` until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", default="demo", help="folder of the sample survey")
    parser.add_argument("--port", default="3000", help="port of the UI on the loopback interface")
    parser.add_argument("--archive-port", type=int, default=0, help="port of the local archive server (any by default)")
    args = parser.parse_args()
    folders = Folders(Path(args.directory).absolute())
    with contextlib.ExitStack() as stack:
        if folders.sky.is_dir() and "PROC_DECAM_REPO" not in os.environ:
            from proc_decam_dagster.simulation.server import ArchiveServer

            server = stack.enter_context(ArchiveServer(folders.sky, port=args.archive_port))
            prepare(folders)
            apply(environment(folders, server))
            print(f"sample survey in {folders.root}; its archive answers at {server.url}")
        else:
            # Nothing is lost when it stops: the instance has a home.
            home = Path(os.environ.setdefault("DAGSTER_HOME", str(CHECKOUT / ".dagster_home")))
            home.mkdir(parents=True, exist_ok=True)
            if not (home / "dagster.yaml").exists():
                (home / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
            print(
                "no sample survey here (`make demo` makes one); the survey is the one that PROC_DECAM_REPO, "
                "PROC_DECAM_DATA and PROC_DECAM_PROPOSALS name"
            )
        print(f"open http://127.0.0.1:{args.port}", flush=True)
        command = [
            str(Path(sys.executable).parent / "dagster"), "dev",
            "-w", str(CHECKOUT / "workspace.yaml"), "-h", "127.0.0.1", "-p", args.port,
        ]  # fmt: skip
        # A shell starts background jobs with SIGINT ignored, and Dagster would inherit that and never stop.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(command)
        signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # dagster dev got it as well, and stops its own processes


if __name__ == "__main__":
    sys.exit(main())
