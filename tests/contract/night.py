"""Nights run by generated tasks, from zeros to differences: ``python -m contract.night ROOT SIZE…`` tells all as JSON.

It is a program of its own, because storage classes are set once a process.
"""

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from contract.faults import FAULTS, fault_file
from contract.survey import Size, StackRepository, make_survey

from proc_decam_dagster.execution import Ledger, WorkerPool, run_coadd, run_night
from proc_decam_dagster.execution.bps import Bps
from proc_decam_dagster.execution.report import PipelineReport
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


def told(what: str, report: PipelineReport) -> dict[str, Any]:
    """Return what is to be known of a run of a chain."""
    tasks = {k: n for step in report.steps for k, n in step.tasks.items()}
    return {
        "what": what,
        "tasks": {k: [n.succeeded, n.failed, n.blocked, n.skipped] for k, n in tasks.items()},
        "quanta": sum(step.quanta for step in report.steps),
        "attempts": sum(step.attempts for step in report.steps),
        "failures": [[f.task, f.data_id, f.exception, f.attempts, f.earlier] for s in report.steps for f in s.failures],
        "stopped": report.stopped,
        "calibrations": report.calibrations,
    }


def run(repository: StackRepository, size: Size, back_end: str) -> dict[str, Any]:
    """Run the survey; the last night comes late, and has no calibrations of its own."""
    runs, stale = [], []
    *early, late = size.names
    with WorkerPool(2) as pool:
        options = {"pool": pool, "backend": Bps("local") if back_end == "bps" else "local"}

        def night(name: str, proc_type: str, note: str = "", **more: Any) -> None:
            report = run_night(repository, name, proc_type, **options, **more)
            runs.append(told(f"{name} {proc_type}{note}", report.pipeline))

        def coadd(pattern: str, note: str = "", **more: Any) -> None:
            report = run_coadd(repository, pattern, *SUBSET.values(), **options, **more)
            runs.append(told(f"coadd{note}", report))

        for name in early:
            for proc_type in ("bias", "flat"):
                night(name, proc_type, min_frames=size.frames)
            night(name, "drp")
        night(early[0], "flat", " again", min_frames=size.frames)
        night(early[0], "drp", " again")
        coadd("2019*")
        nearest = CalibrationPolicy.of(policy="nearest")
        for proc_type in ("bias", "flat", "drp"):
            night(late, proc_type, calibrations=nearest)
        coadd("2019*/drp", " is there")
        stale.append([s.chain for s in find_stale(repository)])
        coadd("2019*/drp", " with the late night", skip_existing=False)
        stale.append([s.chain for s in find_stale(repository)])
        for science in ("clean", "injected"):
            for name in size.names:
                night(name, "diff_drp", f" {science}", science=science, **SUBSET)
    return {"runs": runs, "stale": stale, "found": found(repository, size)}


def run_frames(repository: StackRepository, size: Size, back_end: str) -> dict[str, Any]:
    """Run a night's bias by warm workers, and its single flats by a back end, twice."""
    night, runs = size.names[0], []
    with WorkerPool(2) as pool:
        run_night(repository, night, "bias", pool=pool, min_frames=size.frames)
        for note in ("", " again"):
            backend = Bps("local") if back_end == "bps" else "local"
            report = run_night(repository, night, "flat", pool=pool, backend=backend, steps="0,1")
            runs.append(told(f"{night} flat{note}", report.pipeline))
    return {"runs": runs, "found": {"flat frame": flat_frame(repository, size)}}


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
    facts: dict[str, Any] = {"flat frame": flat_frame(repository, size)}
    for kind in ("bias", "flat"):
        refs = butler.query_datasets(kind, collections=f"{first}/calib/{kind}", find_first=False, limit=None)
        facts[f"certified {kind}"] = sorted(ref.dataId["detector"] for ref in refs)
    for name in (first, last):
        visit = size.exposures(name)["object"][0]
        chain = f"{name}/drp"
        facts[f"isr {name}"] = get(datasets.POST_ISR, exposure=visit, collections=chain)["read"]
        facts[f"epoch {name}"] = get(datasets.POST_ISR_MASKED, exposure=visit, collections=chain)["epoch"]
        for kind in (datasets.CALEXP, datasets.INJECTED_CALEXP):
            facts[f"{kind} {name}"] = get(kind, visit=visit, collections=chain)["planes"]
    coadds = butler.query_datasets(datasets.named(datasets.COADD), collections=COADD, limit=None)
    attempts = Ledger.of(repository).attempts(COADD, "assembleCoadd")
    facts["coadd memory"] = sorted({a.memory_requested_mb for a in attempts})
    facts["coadds"] = [[ref.dataId["patch"], butler.get(ref)["read"]] for ref in coadds]
    return facts


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    for name in ("nights", "detectors", "visits", "frames"):
        parser.add_argument(name, type=int)
    parser.add_argument("--back-end", choices=["local", "bps"], default="local")
    parser.add_argument("--frames-only", action="store_true", help="bias, and single flats")
    given = parser.parse_args()
    size = Size(given.nights, given.detectors, given.visits, given.frames)
    faults = given.root.parent / "faults"
    faults.mkdir()
    os.environ[FAULTS] = str(faults)
    plant_faults(faults, size)
    repository = make_survey(given.root, size)
    print(json.dumps((run_frames if given.frames_only else run)(repository, size, given.back_end)))


if __name__ == "__main__":
    main()
