"""What the tests of faults share: a program that runs a night's bias, and the proof that no fault lost anything."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from toy.repository import PIPELINES

from proc_decam_dagster.execution import Ledger, run_pipeline
from proc_decam_dagster.execution.attempts import LOST, SUCCEEDED

NIGHT = "20190401"
CHAIN = f"{NIGHT}/bias"
EXPOSURES, DETECTORS = (101, 102, 103), (1, 2, 3, 4)
OUTPUTS = {"added": 12, "bias": 4} | {f"cpBiasIsr_{k}": 12 for k in ("log", "metadata")}
OUTPUTS |= {f"cpBiasCombine_{k}": 4 for k in ("log", "metadata")}

TWICE = [pytest.param((1, 2), id="1-2")] + [
    pytest.param((seed,), id=str(seed), marks=[pytest.mark.full]) for seed in range(3, 11)
]
"""Seeds of moments: two in one night, and with --full eight more."""

PROGRAM = """
import json, os, signal, sys
from toy.repository import ToyRepository
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import WorkerPool, graph_run, run_pipeline
graph_run.FLUSH_SECONDS = 0.3
repository, options, quanta = ToyRepository(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
with WorkerPool(2, preload=("toy.tasks",)) as pool:
    def tell(progress):
        print("done", *pool.pids, flush=True)
        if progress.step == "step1" and progress.done == quanta:
            os.kill(os.getpid(), signal.SIGSTOP)

    print("begun", flush=True)
    try:
        report = run_pipeline(repository, "bias", "20190401", pool=pool, progress=tell, **options)
    except SurveyError as error:
        sys.exit(f"error: {error}")
sys.exit(0 if report.ok else str(report))
"""


def moments(of: str, seeds: tuple[int, ...], first: float, last: float) -> list[tuple[float, random.Random]]:
    """Return a moment for each seed, between two bounds and in the order of time, and a generator for all else."""
    chances = [random.Random(f"{of} {seed}") for seed in seeds]
    return sorted(((chance.uniform(first, last), chance) for chance in chances), key=lambda pair: pair[0])


class Night:
    """A night's bias in a toy repository: run by a program of its own, which a test does harm to."""

    def __init__(self, repository, diary: Path) -> None:
        self.repository, self.diary = repository, diary
        self._read: dict[int, tuple[int, list[int]]] = {}
        diary.mkdir()
        self.options = {
            "pipeline_dir": str(PIPELINES), "min_frames": 3,
            "config": {"cpBiasIsr:seconds": 0.1, "cpBiasIsr:diary": str(diary)},
        }  # fmt: skip

    def start(self, stop_after: int = 0) -> subprocess.Popen:
        """Start the program; it writes a line when it begins and after each quantum, with its workers' ids.

        After so many frames it stops itself, until it gets SIGCONT.
        """
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.repository.root), json.dumps(self.options), str(stop_after)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def at(self, process: subprocess.Popen, moment: float) -> list[int]:
        """Wait until a moment, 0 is the beginning and 1 the end of the quanta; return the workers' ids."""
        lines = moment * (len(EXPOSURES) + 1) * len(DETECTORS)
        read, pids = self._read.get(process.pid, (0, []))
        while read <= int(lines):
            pids = [int(word) for word in process.stdout.readline().split()[1:]]
            read += 1
        self._read[process.pid] = read, pids
        time.sleep(0.1 * (lines - int(lines)))
        return pids

    def complete(self, pool) -> None:
        """Type the same command again, and prove that all is there, once, and that every attempt is known."""
        self.refresh()
        certified = self.certified()
        assert certified in (0, len(DETECTORS))
        if certified:
            assert self.counts()["bias"] == len(DETECTORS)
        report = run_pipeline(self.repository, "bias", NIGHT, pool=pool, **self.options)
        assert report.ok, str(report)
        self.refresh()
        assert self.certified() == len(DETECTORS)
        assert self.counts() == OUTPUTS
        assert self.files() == self.registered_files()
        ledger = Ledger.of(self.repository)
        assert not list(ledger.folder.iterdir()) and not list((self.repository.state_dir / "graphs").iterdir())
        attempts = ledger.attempts(CHAIN)
        known = Counter((a.task, tuple(json.loads(a.data_id)[k] for k in ("exposure", "detector")))
                        for a in attempts if a.task == "cpBiasIsr")  # fmt: skip
        begun = Counter()
        for file in self.diary.iterdir():
            _, exposure, detector, *_ = file.name.split()
            begun["cpBiasIsr", (int(exposure), int(detector))] += 1
        assert begun and all(known[name] >= n for name, n in begun.items())
        assert known.total() - begun.total() <= 2 * sum(a.outcome == LOST for a in attempts) + 2  # killed before it
        assert len({(a.task, a.data_id) for a in attempts if a.outcome == SUCCEEDED}) == 16
        assert not ledger.failures([CHAIN])

    def refresh(self) -> None:
        self.repository.butler().registry.refresh()

    def counts(self) -> dict[str, int]:
        """Return the number of datasets by type, each of another data id."""
        found = {}
        for name in OUTPUTS:
            refs = self._refs(name)
            assert len({ref.dataId for ref in refs}) == len(refs), f"{name} exists more than once"
            found[name] = len(refs)
        return found

    def _refs(self, name: str) -> list:
        butler = self.repository.butler()
        runs = butler.collections.query(f"{CHAIN}/*")
        if not runs or not butler.registry.queryDatasetTypes(name):
            return []
        return butler.query_datasets(name, collections=runs, find_first=False, explain=False, limit=None)

    def files(self) -> set[str]:
        """Return the paths of all files that lie in the chain's folder."""
        return {str(p) for p in (self.repository.root / CHAIN).rglob("*") if p.is_file()}

    def registered_files(self) -> set[str]:
        """Return the paths of all files that the registry knows of there."""
        butler, names = self.repository.butler(), [*OUTPUTS, "packages", "cpBiasIsr_config", "cpBiasCombine_config"]
        return {butler.getURI(ref).ospath for name in names for ref in self._refs(name)}

    def certified(self) -> int:
        """Return the number of certified masters."""
        butler = self.repository.butler()
        if not butler.registry.queryDatasetTypes("bias"):
            return 0
        name = f"{NIGHT}/calib/bias"
        if name not in butler.collections.query("*"):
            return 0
        return len(list(butler.registry.queryDatasetAssociations("bias", collections=name)))
