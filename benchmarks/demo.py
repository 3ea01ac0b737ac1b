"""`make demo`: the sample survey from its proposal id to difference images, through Dagster, against the truth."""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from survey_environment import Folders, apply, environment, prepare

TEMPLATE_NIGHTS, SCIENCE_NIGHTS = 2, 1
COADD_SUBSET = "2019"
MAIN_TEMPLATE = "meanclip"


class MemoryWatch:
    """Largest resident memory of this process and all its descendants together, sampled twice a second."""

    def __init__(self) -> None:
        import psutil

        self._process, self._stop, self.peak_gb = psutil.Process(), threading.Event(), 0.0
        self._no_process = psutil.NoSuchProcess
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            total = 0
            for process in [self._process, *self._process.children(recursive=True)]:
                try:
                    # Proportional share: pages that forked workers share count once.
                    total += process.memory_full_info().pss
                except self._no_process:
                    continue
            self.peak_gb = max(self.peak_gb, total / 1e9)

    def close(self) -> None:
        """Stop sampling."""
        self._stop.set()


class Stages:
    """Runs stages one after the other, prints what each made, and remembers their seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start = time.monotonic()

    @contextmanager
    def __call__(self, name: str):
        print(f"\n== {name}  ({time.monotonic() - self.start:.0f} s since the start)", flush=True)
        start = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - start, 2)
        print(f"   {name}: {time.monotonic() - start:.1f} s", flush=True)


class Materialiser:
    """Materialises assets in this process, on Dagster's own instance, so that the UI shows the same runs."""

    def __init__(self) -> None:
        import dagster as dg

        from proc_decam_dagster.definitions import build_definitions

        self.instance = dg.DagsterInstance.get()
        definitions = dg.Definitions.merge(build_definitions(), dg.Definitions(loggers={"console": _brief_logger()}))
        self.job = definitions.resolve_implicit_global_asset_job_def()
        self.quanta = {"succeeded": 0, "failed": 0}
        self.worker_rss_gb = 0.0
        self.failed_checks: list[str] = []

    def __call__(self, *names: str, partition: str | None = None, config: dict | None = None) -> None:
        """Materialise assets with their checks; print their figures."""
        import dagster as dg

        result = self.job.execute_in_process(
            instance=self.instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(n.split("/")) for n in names],
            run_config={"loggers": {"console": {}}}
            | ({"ops": {n.replace("/", "__"): {"config": config} for n in names}} if config else {}),
        )
        for event in result.get_asset_materialization_events():
            self._tell(event.materialization)
        for evaluation in result.get_asset_check_evaluations():
            if not evaluation.passed:
                self.failed_checks.append(f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}")
                print(f"   check {self.failed_checks[-1]} did not pass: {evaluation.metadata}")

    def _tell(self, materialization) -> None:
        shown = []
        for key, value in materialization.metadata.items():
            plain = getattr(value, "value", None)
            if isinstance(plain, bool) or not isinstance(plain, (int, float)):
                continue
            shown.append(f"{key} {plain:.4g}" if isinstance(plain, float) else f"{key} {plain}")
            if key.endswith(("quanta_succeeded", "quanta_failed")):
                self.quanta[key.rsplit("_", 1)[-1]] += plain
            elif key.endswith("peak_rss_gb"):
                self.worker_rss_gb = max(self.worker_rss_gb, plain)
        where = f"[{materialization.partition}]" if materialization.partition else ""
        print(f"   {materialization.asset_key.to_user_string()}{where}: {', '.join(shown)}", flush=True)


def _brief_logger():
    """Return a Dagster logger that prints what assets say, and none of Dagster's own events."""
    import logging

    import dagster as dg

    class Brief(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = getattr(record, "dagster_meta", {}).get("orig_message")
            if said and record.levelno >= logging.INFO:
                print(f"     {said}", flush=True)

    @dg.logger
    def brief(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("demo", logging.INFO)
        logger.addHandler(Brief())
        return logger

    return brief


def simulate(folders: Folders, seed: int, detectors: tuple[int, ...], sky: tuple[float, float], jobs: int) -> None:
    """Make the sample survey, unless the same one is there already."""
    from proc_decam_dagster.simulation.survey import simulate_survey

    wanted = {"seed": seed, "detectors": list(detectors), "sky": list(sky)}
    marker = folders.sky / "made.json"
    if marker.is_file() and json.loads(marker.read_text()) == wanted:
        print("   the same survey is there already")
        return
    simulate_survey(
        folders.sky, seed=seed, detectors=detectors, sky=sky, template_nights=TEMPLATE_NIGHTS,
        science_nights=SCIENCE_NIGHTS, jobs=jobs, progress=_tell_files,
    )  # fmt: skip
    marker.write_text(json.dumps(wanted))


def _tell_files(done: int, total: int, name: str) -> None:
    if done % 5 == 0 or done == total:
        print(f"   {done}/{total} raw files", flush=True)


def process(survey: Materialiser, stages: Stages, detectors: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """Take the survey from its proposal id to difference images; return its template and science nights."""
    from proc_decam_dagster.partitions import NIGHTS, add_coadd_subset, cell
    from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES

    with stages("exposures"):
        survey("exposures")
    nights = sorted(survey.instance.get_dynamic_partitions(NIGHTS.name))
    template_nights, science_nights = nights[:TEMPLATE_NIGHTS], nights[TEMPLATE_NIGHTS:]
    with stages("references"):
        survey("curated_calibs")
        survey("skymap")
        survey("defects", config={"detectors": list(detectors)})
        survey("refcats")
        survey("fakes")
    for asset in ("raws", "bias", "flat", "calexps"):
        with stages(asset):
            for night in nights:
                survey(asset, partition=night)
    add_coadd_subset(survey.instance, COADD_SUBSET)
    with stages("coadds"):
        for template_type in sorted(TEMPLATE_TYPES, key=lambda t: t != MAIN_TEMPLATE):
            for night in template_nights:
                survey(f"{template_type}/coadd_inputs", partition=cell(night, COADD_SUBSET))
            # All types on one patch; the one that differences use on all of them.
            config = None if template_type == MAIN_TEMPLATE else {"where": f"patch={central_patch()}"}
            survey(f"{template_type}/coadds", partition=COADD_SUBSET, config=config)
    with stages("diffs"):
        for night in science_nights:
            survey(f"{MAIN_TEMPLATE}/diffs", partition=cell(night, COADD_SUBSET), config={"science": "both"})
    return template_nights, science_nights


def central_patch() -> int:
    """Return the patch that most of the template's warps fall on."""
    from collections import Counter

    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.queries import find_refs
    from proc_decam_dagster.survey import datasets
    from proc_decam_dagster.survey.collections import coadd_inputs_collection

    repo = open_repository(os.environ["PROC_DECAM_REPO"])
    inputs = coadd_inputs_collection(COADD_SUBSET, MAIN_TEMPLATE)
    refs = find_refs(repo, datasets.named(datasets.DIRECT_WARP), inputs)
    return Counter(int(r.dataId["patch"]) for r in refs).most_common(1)[0][0]


def save_pictures(folders: Folders, template_nights: list[str], science_nights: list[str]) -> None:
    """Write the pictures that the assets show, as files."""
    from proc_decam_dagster import report
    from proc_decam_dagster.repository import open_repository

    repo = open_repository(folders.repository)
    parts = {"coadd_subset": COADD_SUBSET, "template_type": MAIN_TEMPLATE}
    made: dict[str, Callable[[], bytes]] = {
        "bias": lambda: report.calibration_picture(repo, template_nights[0], "bias"),
        "flat": lambda: report.calibration_picture(repo, template_nights[0], "flat"),
        "visit": lambda: report.visit_picture(repo, science_nights[0]),
        "coadd": lambda: report.coadd_picture(repo, **parts),
        "difference": lambda: report.difference_picture(repo, science_nights[0], **parts),
    }
    for name, make in made.items():
        (folders.pictures / f"{name}.png").write_bytes(make())


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    from importlib.metadata import version

    names = ("proc-decam-dagster", "dagster", "lsst-daf-butler", "lsst-pipe-base", "numpy", "numba", "astropy", "sep")
    return {"python": sys.version.split()[0]} | {name: version(name) for name in names}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", default="demo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--detectors", default="", help="CCD numbers, such as 25,31; at least two")
    parser.add_argument("--sky", default="", help="RA,DEC of the field in degrees")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("J", 0)) or os.cpu_count() or 1)
    args = parser.parse_args(arguments)
    try:
        args.detectors = tuple(int(d) for d in args.detectors.split(",")) if args.detectors else (28, 35)
        args.sky = tuple(float(v) for v in args.sky.split(",")) if args.sky else (149.4, 1.7)
    except ValueError:
        parser.error("DETECTORS are CCD numbers such as 25,31 and SKY is RA,DEC in degrees such as 149.4,1.7")
    if len(args.detectors) < 1 or not all(1 <= d <= 62 for d in args.detectors) or len(args.sky) != 2:
        parser.error("DETECTORS are between 1 and 62, and SKY is RA,DEC")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return 0 if every target was met."""
    args = parse(arguments)
    folders = Folders(Path(args.directory).absolute())
    os.environ["J"] = str(args.jobs)
    stages, memory = Stages(), MemoryWatch()
    with stages("simulate"):
        folders.root.mkdir(parents=True, exist_ok=True)
        simulate(folders, args.seed, args.detectors, args.sky, args.jobs)

    from proc_decam_dagster.simulation.server import ArchiveServer

    with ArchiveServer(folders.sky) as server:
        prepare(folders)
        apply(environment(folders, server))
        survey = Materialiser()
        template_nights, science_nights = process(survey, stages, args.detectors)
    with stages("compare with the truth"):
        from proc_decam_dagster.report.truth import compare
        from proc_decam_dagster.repository import open_repository

        figures = compare(
            open_repository(folders.repository), folders.sky / "truth", template_nights + science_nights,
            science_nights, COADD_SUBSET, MAIN_TEMPLATE,
        )  # fmt: skip
        save_pictures(folders, template_nights, science_nights)
    memory.close()
    summary = {
        "nights": {"template": template_nights, "science": science_nights},
        "detectors": list(args.detectors),
        "quanta": survey.quanta,
        "seconds": stages.seconds | {"total": round(time.monotonic() - stages.start, 1)},
        "peak_rss_gb": round(memory.peak_gb, 3),
        "worker_rss_gb": round(survey.worker_rss_gb, 3),
        **figures,
        "failed_checks": survey.failed_checks,
        "versions": versions(),
    }
    (folders.root / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    missed = print_table(summary)
    print_next(folders)
    return 1 if missed or survey.quanta["failed"] else 0


def print_table(summary: dict) -> list[str]:
    """Print the results against their targets; return the names of those missed."""
    from targets import DEMO

    rows = [(t.label, t.value(summary), t) for t in DEMO]
    width = max(len(label) for label, *_ in rows)
    print("\n" + "result".ljust(width) + "   reached   target")
    missed = []
    for label, value, target in rows:
        met = target.met(value)
        if not met:
            missed.append(label)
        print(f"{label.ljust(width)} {value:9.3f}   {target.text():10s} {'' if met else 'MISSED'}")
    return missed


def print_next(folders: Folders) -> None:
    """Say where the results are and what to try next."""
    print(
        f"\nsummary   {folders.root / 'summary.json'}\npictures  {folders.pictures}\n"
        f"\nNext:\n  make dev                  the Dagster UI on this survey: http://127.0.0.1:3000\n"
        f"  .venv/bin/proc-decam --help\n"
        "  a real proposal:          export PROC_DECAM_PROPOSALS=2019A-0337 PROC_DECAM_DATA=./data\n"
        "                            export PROC_DECAM_REPO=./repo\n"
        "                            (and NOIRLAB_USER, NOIRLAB_PASS for proprietary data), make dev,\n"
        "                            then materialise `exposures`\n"
    )


if __name__ == "__main__":
    sys.exit(main())
