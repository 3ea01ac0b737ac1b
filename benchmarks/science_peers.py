"""The programs that the science benchmark is measured against: installed apart from our environment, run one by one."""

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
LOCK = HERE / "peers.lock"
PROGRAM = HERE / "peers_run.py"
HOTPANTS = "HOTPANTS is in neither Debian nor PyPI: its figures are not measured"


def peers_python(say: Callable[[str], None]) -> Path | None:
    """Return the Python of the peers' environment, made from the hashed lock; `None`, said, where that fails."""
    folder = Path(sys.prefix) / "peers"
    python, mark = folder / "bin" / "python", folder / ".lock"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if python.is_file() and mark.is_file() and mark.read_text() == wanted:
        return python
    say("installing the peers (ccdproc, astroscrappy, reproject, photutils)")
    venv.create(folder, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(LOCK)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        say(f"no peers: they could not be installed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    mark.write_text(wanted)
    return python


def peer_seconds(python: Path | None, job: str, folder: Path, arrays: dict[str, np.ndarray], **values) -> float | None:
    """Return the CPU seconds of a job of `peers_run` in a warm process on arrays in memory; `None`, said, if it failed.

    Parameters
    ----------
    python : `pathlib.Path`, optional
        See `peers_python`; without it there is no figure.
    job : `str`
        Name of a function there.
    folder : `pathlib.Path`
        Where the arrays are handed over.
    arrays : `dict`
        Arguments of the job; ``values`` are its others.
    """
    if python is None:
        return None
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "values.json").write_text(json.dumps(values))
    done = subprocess.run([str(python), str(PROGRAM), job, str(folder)], capture_output=True, text=True)
    if done.returncode:
        print(f"science: no figure, peer {job} failed: {done.stderr.strip()[-500:]}", file=sys.stderr, flush=True)
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1])["cpu"])


def swarp_program() -> str | None:
    """Return SWarp, if it is installed (Debian: package ``swarp``)."""
    return shutil.which("SWarp") or shutil.which("swarp")
