"""Nights run by generated tasks, from zeros to differences: ``python -m contract.night ROOT SIZE…`` tells all as JSON.

It is a program of its own, because storage classes are set once a process. Each run that has ended is written beside
the repository, and is not made again by the next program: a large survey can be made in pieces (``--seconds``).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from contract.faults import FAULTS, fault_file
from contract.survey import Size, StackRepository, make_survey

from proc_decam_dagster.execution import Ledger, WorkerPool, graph, run_coadd, run_night
from proc_decam_dagster.execution.bps import Bps
from proc_decam_dagster.execution.nights import run_nights
from proc_decam_dagster.execution.report import NightReport, PipelineReport
from proc_decam_dagster.repository.staleness import find_stale
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.calibration_policy import CalibrationPolicy
from proc_decam_dagster.survey.collections import coadd_inputs_collection

SUBSET = {"coadd_subset": "2019", "template_type": "meanclip"}
COADD = coadd_inputs_collection(*SUBSET.values()).removesuffix("/inputs")


def plant_faults(folder: Path, size: Size) -> None:
    """Let tasks of the first night fail: one flat and one science exposure once, another science exposure for good."""
    exposures = size.exposures(size.names[0])
    science = exposures["object"]
    for label, number, detector, what in (
        ("cpFlatIsr", exposures["dome flat"][0], size.detector_ids[0], "MemoryError once"),
        ("calibrateImage", science[0], size.detector_ids[0], "MemoryError once"),
        ("calibrateImage", science[-1], size.detector_ids[-1], "ValueError"),
    ):
        fault_file(folder, label, number, detector).write_text(what)


def one_core(folder: Path) -> Bps:
    """Return BPS with one worker a workflow: what is tested is orchestration, and each program costs its imports."""
    site = folder / "site.yaml"
    site.write_text(yaml.safe_dump({"computeSite": "local", "site": {"local": {"cores": 1}}}))
    return Bps(str(site))


def facts(report: PipelineReport) -> dict[str, Any]:
    """Return what is to be known of a run of a chain."""
    tasks = {k: n for step in report.steps for k, n in step.tasks.items()}
    return {
        "tasks": {k: [n.succeeded, n.failed, n.blocked, n.skipped] for k, n in tasks.items()},
        "quanta": sum(step.quanta for step in report.steps),
        "attempts": sum(step.attempts for step in report.steps),
        "failures": [[f.task, f.data_id, f.exception, f.attempts, f.earlier] for s in report.steps for f in s.failures],
        "stopped": report.stopped,
        "calibrations": report.calibrations,
    }


class Told:
    """What ended runs told, in a file, so that none is made twice.

    Parameters
    ----------
    file : `~pathlib.Path`
        One line of JSON a run.
    seconds : `float`
        After so long no further run is begun, and the program ends.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self.file, self.begun = file, time.monotonic()
        self.until = self.begun + seconds
        self.rows: list[dict[str, Any]] = []
        if file.exists():
            self.rows = [json.loads(line) for line in file.read_text().splitlines()]

    def knows(self, what: str) -> bool:
        """Whether a run was made."""
        return any(row["what"] == what for row in self.rows)

    def begin(self, what: str) -> None:
        """End the program if the time is over."""
        self.begun = time.monotonic()
        if time.monotonic() > self.until:
            print(f"the time is over before {what}", file=sys.stderr)
            raise SystemExit(UNFINISHED)

    def add(self, what: str, **row: Any) -> None:
        """Take note of a run that has ended."""
        self.rows.append({"what": what, "seconds": round(time.monotonic() - self.begun, 1)} | row)
        with self.file.open("a") as lines:
            lines.write(json.dumps(self.rows[-1]) + "\n")

    def of(self, what: str, make: Callable[[], dict[str, Any]]) -> None:
        """Make a run, if it was not made."""
        if not self.knows(what):
            self.begin(what)
            self.add(what, **make())


UNFINISHED = 3
"""Exit status of a program that has left runs to the next one."""


class Survey:
    """A survey's runs: warm workers take nights one after the other, BPS takes all at once, since it starts programs.

    Parameters
    ----------
    repository : `StackRepository`
        The survey.
    backend : `str` or `Bps`
        Where quanta run.
    pool : `WorkerPool`
        Warm workers.
    told : `Told`
        What was made already.
    """

    def __init__(self, repository: StackRepository, backend: str | Bps, pool: WorkerPool, told: Told) -> None:
        self.repository, self.backend, self.pool, self.told = repository, backend, pool, told

    def nights(self, names: list[str], proc_type: str, note: str = "", **options: Any) -> None:
        """Run a proc type of some nights."""
        left = [name for name in names if not self.told.knows(f"{name} {proc_type}{note}")]
        if not left:
            return
        self.told.begin(f"{left[0]} {proc_type}{note}")
        options["backend"] = self.backend

        def finished(report: NightReport) -> None:
            if report.pipeline is None:
                raise RuntimeError(f"{report.night} {proc_type}{note}: {report.error}")
            self.told.add(f"{report.night} {proc_type}{note}", **facts(report.pipeline))

        if self.backend == "local":
            for name in left:
                finished(run_night(self.repository, name, proc_type, pool=self.pool, **options))
        else:
            run_nights(self.repository, left, [proc_type], executions=len(left), jobs=1, finished=finished, **options)

    def coadd(self, pattern: str, note: str = "", **options: Any) -> None:
        """Make the coadds."""
        options |= {"pool": self.pool, "backend": self.backend}
        self.told.of(f"coadd{note}", lambda: facts(run_coadd(self.repository, pattern, *SUBSET.values(), **options)))

    def stale(self, note: str) -> None:
        """Ask what is stale."""
        self.told.of(f"stale {note}", lambda: {"chains": [s.chain for s in find_stale(self.repository)]})

    def run(self, size: Size) -> None:
        """Run everything; the last night comes late, and has no calibrations of its own."""
        *early, late = size.names
        for proc_type in ("bias", "flat"):
            self.nights(early, proc_type, min_frames=size.frames)
        self.nights(early, "drp")
        self.nights(early[:1], "flat", " again", min_frames=size.frames)
        self.nights(early[:1], "drp", " again")
        self.coadd("2019*")
        for proc_type in ("bias", "flat", "drp"):
            self.nights([late], proc_type, calibrations=CalibrationPolicy.of(policy="nearest"))
        self.coadd("2019*/drp", " is there")
        self.stale("coadds")
        self.coadd("2019*/drp", " with the late night", skip_existing=False)
        self.stale("no more")
        for science in ("clean", "injected"):
            self.nights(size.names, "diff_drp", f" {science}", science=science, **SUBSET)
        self.told.of("found", lambda: found(self.repository, size))


def run_frames(survey: Survey, size: Size) -> None:
    """Run a night's bias and the first step of its flats by warm workers, and single flats by a back end, twice."""
    night = size.names[0]
    run_night(survey.repository, night, "bias", pool=survey.pool, min_frames=size.frames)
    run_night(survey.repository, night, "flat", pool=survey.pool, steps="0")
    for note in ("", " again"):
        survey.nights([night], "flat", note, steps="0,1")
    survey.told.of("found", lambda: {"flat frame": flat_frame(survey.repository, size)})


def flat_frame(repository: StackRepository, size: Size) -> dict[str, list[str]]:
    """Return the inputs of the first flat, and the RUNs that they are from."""
    night = size.names[0]
    data_id = {"exposure": size.exposures(night)["dome flat"][0], "detector": size.detector_ids[0]}
    return repository.butler().get("cpFlatIsrExp", instrument="DECam", collections=f"{night}/flat", **data_id)["read"]


def found(repository: StackRepository, size: Size) -> dict[str, Any]:
    """Return what datasets say of how they were made."""
    butler = repository.butler()
    get = partial(butler.get, instrument="DECam", detector=size.detector_ids[0])
    first, last = size.names[0], size.names[-1]
    seen: dict[str, Any] = {"flat frame": flat_frame(repository, size)}
    for kind in ("bias", "flat"):
        refs = butler.query_datasets(kind, collections=f"{first}/calib/{kind}", find_first=False, limit=None)
        seen[f"certified {kind}"] = sorted(ref.dataId["detector"] for ref in refs)
    for name in (first, last):
        visit = size.exposures(name)["object"][0]
        chain = f"{name}/drp"
        seen[f"isr {name}"] = get(datasets.POST_ISR, exposure=visit, collections=chain)["read"]
        seen[f"epoch {name}"] = get(datasets.POST_ISR_MASKED, exposure=visit, collections=chain)["epoch"]
        for kind in (datasets.CALEXP, datasets.INJECTED_CALEXP):
            seen[f"{kind} {name}"] = get(kind, visit=visit, collections=chain)["planes"]
    coadds = butler.query_datasets(datasets.named(datasets.COADD), collections=COADD, limit=None)
    attempts = Ledger.of(repository).attempts(COADD, "assembleCoadd")
    seen["coadd memory"] = sorted({a.memory_requested_mb for a in attempts})
    seen["coadds"] = [[ref.dataId["patch"], butler.get(ref)["read"]] for ref in coadds]
    return seen


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    for name in ("nights", "detectors", "visits", "frames"):
        parser.add_argument(name, type=int)
    parser.add_argument("--back-end", choices=["local", "bps"], default="local")
    parser.add_argument("--frames-only", action="store_true", help="bias, and single flats")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no run after so long")
    given = parser.parse_args()
    size = Size(given.nights, given.detectors, given.visits, given.frames)
    beside = given.root.parent
    faults, lines = beside / "faults", beside / "told.jsonl"
    os.environ[FAULTS] = str(faults)
    if lines.exists():
        repository = StackRepository(given.root)
    else:
        faults.mkdir()
        plant_faults(faults, size)
        repository = make_survey(given.root, size)
        lines.touch()
    told = Told(lines, given.seconds)
    graph.read_pipeline = cache(graph.read_pipeline)  # no file changes under this program, and reading takes its time
    with WorkerPool(2) as pool:
        survey = Survey(repository, one_core(beside) if given.back_end == "bps" else "local", pool, told)
        run_frames(survey, size) if given.frames_only else survey.run(size)
    print(json.dumps(told.rows))


if __name__ == "__main__":
    main()
