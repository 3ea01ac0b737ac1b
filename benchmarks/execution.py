"""The execution benchmark: trivial quanta as a user runs them, beside the reference's sequence of processes.

Commands are processes of their own, typed as a user types them; what is told is their wall clock, start included.
"""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archive import figure
from execution_registry import registry_figures
from execution_slurm import slurm_figures
from execution_survey import make_survey

from proc_decam_dagster.camera.detectors import DETECTORS

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

HERE = Path(__file__).resolve().parent
PIPELINE = HERE / "execution_toy.yaml"
CORES = 2
SMALL = ("20190401", "20190402", "20190403")
REFERENCE, MANY, SLURM, REAL = "20190404", "20190405", "20190406", "20190407"
"""Nights: for repeats of a small step, for the reference, for many quanta, for these on Slurm, and a real-sized one."""
NIGHTS = dict.fromkeys((*SMALL, REFERENCE), 1) | dict.fromkeys((MANY, SLURM), 10) | {REAL: 100}
"""Night → exposures of 62 detectors."""


def bench_execution(folder: Path, parts: Sequence[str]) -> Iterator[dict]:
    """Steps of few and of many quanta, graphs of very many; the registry on Postgres (``registry``, ``survey``)."""
    if {"steps", "many", "graphs"} & set(parts):
        survey = Survey(folder / "execution")
        if "steps" in parts:
            yield from step_figures(survey)
        if "many" in parts:
            yield from many_figures(survey)
            yield from slurm_figures(survey, SLURM, NIGHTS[SLURM], CORES)
        if "graphs" in parts:
            yield from graph_figures(survey)
        survey.repository.close()
    if {"registry", "survey"} & set(parts):
        yield from registry_figures(parts)


class Survey:
    """A repository of tiny raws, and the commands that are run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository: Repository = make_survey(folder / "repo", folder / "images", NIGHTS)
        self.root, self.pipeline = str(self.repository.root), f"{PIPELINE}#step1"
        self.environment = os.environ | {
            "J": str(CORES), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", "")))),
        }  # fmt: skip
        self.small = self.many = math.nan
        self.processor = self.memory_mb = 0.0

    def run(self, *command: str) -> float:
        """Run a program of this environment; return its seconds, and keep its processor seconds and its memory.

        The processor seconds are also those of the descendants that it has waited for; the memory is its own, at most.
        """
        said, start = self.folder / "said.txt", time.perf_counter()
        with open(said, "w") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name(command[0])), *command[1:]], stdout=output, stderr=output,
                env=self.environment, cwd=self.folder,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
        seconds, process.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
        self.processor, self.memory_mb = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        print(f"execution: {' '.join(command[:2])} {seconds:.2f} s, processor {self.processor:.2f} s, "
              f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)  # fmt: skip
        if process.returncode:
            raise SystemExit(f"error: {' '.join(command)} failed: {said.read_text()[-3000:]}")
        return seconds

    def several(self, way: Callable[[str], float], names: Sequence[str]) -> tuple[float, float]:
        """Do something for each of some names; return the medians of its seconds and of its processor seconds."""
        done = [(way(name), self.processor) for name in names]
        return statistics.median(seconds for seconds, _ in done), statistics.median(work for _, work in done)

    def execute(self, night: str) -> float:
        """Run a step of one task on a night, from the command typed to the chain updated."""
        return self.run("proc-decam", "execute", self.root, f"{night}/bias", "--pipeline", self.pipeline)

    def made(self, night: str) -> int:
        """Return how many outputs a night's chain holds."""
        butler = self.repository.butler()
        return len(butler.query_datasets("toyFirst", f"{night}/bias", limit=None, explain=False))


def step_figures(survey: Survey) -> Iterator[dict]:
    """A small step: run, run again with nothing to do, and run by the reference's sequence of processes."""
    number = len(DETECTORS)
    ours, work = survey.several(survey.execute, SMALL)
    for night in SMALL:
        assert survey.made(night) == number
    again, again_work = survey.several(survey.execute, SMALL)
    imports, import_work = survey.several(lambda _: survey.run("python", "-c", "import lsst.pipe.base"), SMALL)
    (survey.folder / "reference").mkdir()
    reference = survey.run(
        "python", str(HERE / "execution_reference.py"), survey.root, f"{REFERENCE}/bias", survey.pipeline,
        str(CORES), str(survey.folder / "reference"),
    )  # fmt: skip
    assert survey.made(REFERENCE) == number
    survey.small = ours
    what, peer = f"{number} trivial quanta, J={CORES}: command to chain updated", "the reference's processes"
    yield figure(what, round(ours, 2), "s", 15.0, ours <= 15)
    ratio = reference / ours
    yield figure(
        f"{what}, times faster", round(ratio, 1), "", 8, ratio >= 8, peer, round(reference, 1), round(ratio, 1)
    )
    yield figure(f"{what}, processor of all but the workers", round(work, 1), "s")
    what = f"a finished step of {number} quanta run again, beyond `import lsst.pipe.base`"
    yield figure(what, round(again - imports, 2), "s", 3.0, again - imports <= 3)
    yield figure(f"{what}, processor", round(again_work - import_work, 2), "s")


def many_figures(survey: Survey) -> Iterator[dict]:
    """What each further quantum costs, and the workers' memory."""
    from proc_decam_dagster.execution import Ledger

    number = NIGHTS[MANY] * len(DETECTORS)
    if math.isnan(survey.small):
        survey.small, _ = survey.several(survey.execute, SMALL)
    seconds = survey.many = survey.execute(MANY)
    assert survey.made(MANY) == number
    each = (seconds - survey.small) * CORES / (number - len(DETECTORS)) * 1e3
    yield figure(f"{number} trivial quanta, J={CORES}", round(seconds, 1), "s")
    yield figure(f"{number} trivial quanta, processor of all but the workers", round(survey.processor, 1), "s")
    yield figure(f"{number} trivial quanta, memory of the command itself", round(survey.memory_mb), "MB")
    yield figure("a further quantum, per worker", round(each, 1), "ms", 90, each <= 90)
    attempts = Ledger.of(survey.repository).attempts(f"{MANY}/bias")
    work = statistics.mean(a.cpu_seconds for a in attempts) * 1e3
    yield figure("a quantum, processor of its worker", round(work, 1), "ms")
    memory = [a.peak_memory_mb for a in attempts]
    tenth = len(memory) // 10
    first, last = statistics.median(memory[tenth : 2 * tenth]), statistics.median(memory[-tenth:])
    yield figure("memory of a worker, last tenth of the quanta", round(last, 1), "MB", round(1.05 * first, 1),
                 last <= 1.05 * first, "second tenth", round(first, 1), round(last / first, 3))  # fmt: skip


def graph_figures(survey: Survey) -> Iterator[dict]:
    """The graph of a real-sized night, beside `pipetask qgraph`."""
    number = 3 * NIGHTS[REAL] * len(DETECTORS)
    chain, pipeline = f"{REAL}/bias", f"{PIPELINE}#step3"
    common = ("-b", survey.root, "-p", pipeline, "-i", chain)
    done = []
    for name in ("a", "b", "c"):
        ours = survey.run("proc-decam", "qgraph", *common, "--save-qgraph", f"{name}.qg"), survey.processor
        theirs = survey.run(
            "pipetask", "qgraph", *common, "-d", "instrument='DECam'", "--output-run", f"u/bench/{name}",
            "--save-qgraph", f"peer_{name}.qg",
        ), survey.processor  # fmt: skip
        done.append((*ours, *theirs))
    ours, work, theirs, their_work = map(statistics.median, zip(*done))
    what = f"graph of {number} quanta, built and written"
    for name, mine, peer in (("", ours, theirs), (", processor", work, their_work)):
        bound = round(1.2 * peer, 1)
        yield figure(what + name, round(mine, 1), "s", bound, mine <= 1.2 * peer, "pipetask qgraph", round(peer, 1),
                     round(mine / peer, 2))  # fmt: skip
