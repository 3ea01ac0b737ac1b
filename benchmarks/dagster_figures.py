"""The Dagster benchmark: load of the definitions, our part of a night's run, its event log, and a survey at scale.

Times of whole processes are processor seconds (user and system, with children), which a busy machine changes least.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
REPEATS = 5
SKY, NIGHT = (191.83, 1.7), "20190401"
"""Where the sample field is, and the night that it is seen in for that."""

LOAD = """
import json, sys, time
start = time.process_time(); import dagster; middle = time.process_time()
import proc_decam_dagster.definitions; end = time.process_time()
heavy = {"lsst", "astropy", "matplotlib", "numba", "numpy", "scipy", "sep"} & {m.split(".")[0] for m in sys.modules}
print(json.dumps({"dagster": middle - start, "ours": end - middle, "heavy": sorted(heavy)}))
"""

PEER = '''
"""One asset of a night that imports what a run of ours needs of the middleware, and does nothing with it."""
import dagster as dg
@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["20190401"]))
def night() -> None:
    from lsst.ctrl.mpexec import SeparablePipelineExecutor
    from lsst.daf.butler import Butler
    from lsst.pipe.base import QuantumGraph
@dg.asset_check(asset=night)
def there() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)
defs = dg.Definitions([night], asset_checks=[there], executor=dg.in_process_executor)
'''


def figure(name: str, value: float, unit: str, target: float | None = None, **peer: object) -> dict:
    """Return one of `benchmarks.Figure`, as its arguments; a target is an upper bound."""
    met = None if target is None else value <= target
    return {"figure": name, "value": round(value, 3), "unit": unit, "target": target, "met": met, **peer}


PARTS = ("load", "night", "scale")


def bench_dagster(folder: Path, parts: Collection[str] = PARTS) -> Iterator[dict]:
    """Figures of some parts: the load of the definitions, a night's run, a survey of 1,000 nights."""
    from dagster_scale import scale_figures

    folder.mkdir(parents=True, exist_ok=True)
    # As installed: containers often set it, and every process would compile our modules anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if "load" in parts:
        yield from load_figures()
    if "night" in parts:
        yield from night_figures(folder / "night")
    if "scale" in parts:
        yield from scale_figures(folder / "scale")


def load_figures() -> Iterator[dict]:
    """What the definitions add to `import dagster`, in a process of their own."""
    runs = []
    for _ in range(REPEATS):
        done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    ours, dagster = (statistics.median(run[name] for run in runs) for name in ("ours", "dagster"))
    yield figure("load of the definitions beyond import dagster", ours, "s", 1.0, peer="import dagster",
                 peer_value=round(dagster, 3), ratio=round(ours / dagster, 3))  # fmt: skip
    yield figure(f"heavy packages imported at load {runs[0]['heavy'] or ''}".strip(), len(runs[0]["heavy"]), "", 0)


class Materialiser:
    """Materialises assets as a run worker does: in a process of its own, on an instance with SQLite storage."""

    def __init__(self, home: Path, variables: Mapping[str, str]) -> None:
        home.mkdir(parents=True)
        shutil.copy(CHECKOUT / "dagster.yaml", home)
        self.home, self.environment = home, {**os.environ, **variables, "DAGSTER_HOME": str(home)}

    def __call__(self, select: str, *where: str, partition: str = "") -> float:
        """Return the processor seconds of a run."""
        command = [PROGRAMS / "dagster", "asset", "materialize", "--select", select, *where]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*command, *(["--partition", partition] if partition else [])], cwd=self.home, env=self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"error: materialising {select} failed: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def night_figures(folder: Path) -> Iterator[dict]:
    """A night whose work is all done already, against a run that does nothing; and what a night leaves in the log."""
    from proc_decam_dagster.simulation.server import ArchiveServer
    from proc_decam_dagster.simulation.survey import simulate_survey

    simulate_survey(folder / "archive", seed=7, detectors=(1,), sky=SKY, template_nights=1, science_nights=0,
                    exposures_per_night=2, zeros=5, flats=5, jobs=2)  # fmt: skip
    (folder / "peer.py").write_text(PEER)
    ours, peer = ("-m", "proc_decam_dagster.definitions"), ("-f", str(folder / "peer.py"))
    with ArchiveServer(folder / "archive") as server:
        run = Materialiser(folder / "home", {
            "PROC_DECAM_REPO": str(folder / "repo"), "PROC_DECAM_DATA": str(folder / "data"), "J": "2",
            "PROC_DECAM_ARCHIVE_URL": server.url, "PROC_DECAM_REFCAT_URL": server.refcats_url,
            "PROC_DECAM_BPM_URL": server.masks_url,
        })  # fmt: skip
        run("exposures,curated_calibs", *ours)
        run("skymap,refcats,fakes", *ours)
        shutil.copytree(folder / "archive" / "bpm", folder / "data" / "bpm", dirs_exist_ok=True)
        run("defects", *ours)
        for asset in ("raws", "bias", "flat", "calexps"):
            run(asset, *ours, partition=NIGHT)
        yield from event_figures(run.home)
        seconds = {"ours": [], "peer": []}
        for _ in range(REPEATS):
            seconds["ours"].append(run("bias", *ours, partition=NIGHT))
            seconds["peer"].append(run("night", *peer, partition=NIGHT))
    mine, theirs = statistics.median(seconds["ours"]), statistics.median(seconds["peer"])
    yield figure("our part of a run of a night that is done already", mine - theirs, "s", 2.0,
                 peer="a run that imports the middleware and does nothing", peer_value=round(theirs, 3),
                 ratio=round(mine / theirs, 3))  # fmt: skip


def event_figures(home: Path) -> Iterator[dict]:
    """Events and kilobytes of each of a night's runs."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/partition": NIGHT}))
        counts = {next(iter(r.asset_selection)).to_user_string(): len(instance.all_logs(r.run_id)) for r in runs}
    size = sum(file.stat().st_size for file in (home / "history").rglob("*.db")) / 1e3
    for asset, count in counts.items():
        yield figure(f"events of a run of {asset}", count, "", 200)
    yield figure("event log of a night: raws, bias, flat, calexps", sum(counts.values()), "events", 600)
    yield figure("event log of the survey so far, on disk", size, "kB")
