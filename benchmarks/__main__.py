"""`make bench [ONLY=name]`: prints one JSON line a figure; progress goes to stderr."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``peer`` names what the same work was measured with in the same run, if anything."""

    bench: str
    figure: str
    value: float
    unit: str
    target: float | None = None
    met: bool | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


def run_demo(directory: Path, *options: str) -> dict:
    """Run the demo in a folder, in a process of its own; return its summary."""
    command = [sys.executable, str(HERE / "demo.py"), "--directory", str(directory), *options]
    subprocess.run(command, stdout=sys.stderr, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    summary = directory / "summary.json"
    if not summary.is_file():
        raise SystemExit(f"error: {' '.join(command)} wrote no summary; its output is above")
    return json.loads(summary.read_text())


def demo_figures(bench: str, summary: dict) -> Iterator[Figure]:
    """Yield a demo's figures against their targets, and its seconds and memory by stage and CCD."""
    from targets import DEMO

    for target in DEMO:
        value = target.value(summary)
        yield Figure(bench, target.label, value, target.unit, target.bound, target.met(value))
    ccds = summary["exposures"]["science"] * len(summary["detectors"])
    for stage, seconds in summary["seconds"].items():
        yield Figure(bench, f"stage {stage}", seconds, "s")
    yield Figure(bench, "calexps, seconds a CCD", summary["seconds"]["calexps"] / ccds, "s")
    yield Figure(bench, "all stages, seconds a science CCD", summary["seconds"]["total"] / ccds, "s")
    yield Figure(bench, "memory of one worker", summary["worker_rss_gb"], "GB", 1.5, summary["worker_rss_gb"] <= 1.5)


def bench_demo(folder: Path) -> Iterator[Figure]:
    """The demo as `make demo` runs it."""
    yield from demo_figures("demo", run_demo(folder / "demo"))


def bench_elsewhere(folder: Path) -> Iterator[Figure]:
    """The demo with other seeds, detectors and sky positions."""
    for number, options in enumerate(
        (("--seed=2", "--detectors=25,32", "--sky=210.5,-12.3"), ("--seed=3", "--detectors=5,57", "--sky=35.2,-4.9"))
    ):
        yield from demo_figures(f"elsewhere {' '.join(options)}", run_demo(folder / f"elsewhere{number}", *options))


def bench_archive(folder: Path) -> Iterator[Figure]:
    """Downloads against curl and the reference's way, the ledger, the query of a real table."""
    import archive

    for figure in archive.bench_archive(folder):
        yield Figure("archive", **figure)


def bench_execution(folder: Path, part: str | None = None) -> Iterator[Figure]:
    """Trivial quanta beside the reference's sequence of processes, graphs, and the registry on Postgres."""
    import execution

    for figure in execution.bench_execution(folder, [part] if part else PARTS["execution"]):
        yield Figure("execution", **figure)


def bench_science(folder: Path, ccds: int | None = None) -> Iterator[Figure]:
    """Speed and quality of the embedded engine on full CCDs, against its peers on the same pixels."""
    import science

    for figure in science.bench_science(folder / "science", ccds):
        yield Figure("science", **figure)


def bench_dagster(folder: Path, part: str | None = None) -> Iterator[Figure]:
    """Dagster's face: load, a night's run, pages and sensors of a survey of 1,000 nights."""
    import dagster_figures

    for figure in dagster_figures.bench_dagster(folder, [part] if part else dagster_figures.PARTS):
        yield Figure("dagster", **figure)


BENCHES = {
    "demo": bench_demo, "elsewhere": bench_elsewhere, "archive": bench_archive, "execution": bench_execution,
    "science": bench_science, "dagster": bench_dagster,
}  # fmt: skip

PARTS = {"dagster": ("load", "night", "scale"), "execution": ("steps", "many", "graphs", "registry", "survey")}
"""Benchmark → its parts, which run one by one too."""


def main() -> int:
    """Run the chosen benchmarks; return 0, whatever they found: they inform, tests judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(BENCHES), help="one benchmark; all if not given")
    parser.add_argument("--ccds", type=int, help="science: CCDs of the exposure that is timed (default: all 62)")
    told = "; ".join(f"{name}: {', '.join(parts)}" for name, parts in PARTS.items())
    parser.add_argument("--part", help=f"with --only: one part of it ({told}); all if not given")
    args = parser.parse_args()
    if args.part and args.part not in PARTS.get(args.only, ()):
        parser.error(f"--part {args.part} with --only {args.only}; expected {told}")
    with tempfile.TemporaryDirectory(prefix="decam-bench-") as folder:
        for name in [args.only] if args.only else BENCHES:
            options = {"ccds": args.ccds} if name == "science" else {"part": args.part} if name in PARTS else {}
            for figure in BENCHES[name](Path(folder), **options):
                print(json.dumps(asdict(figure)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
