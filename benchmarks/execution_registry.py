"""Figures of the registry on a real Postgres: raws registered, several writers at once, a whole survey's exposures."""

import contextlib
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archive import TABLE, figure
from execution_survey import FIRST, tiny_night, tiny_raw

from proc_decam_dagster.camera.detectors import DETECTORS

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

NIGHT, EXPOSURES = "20190401", 100
WRITERS = (1, 2, 4)
EACH = 40
"""Exposures that each of several writers registers, in transactions of `PART`."""
PART = 10
SURVEY = int(os.environ.get("PROC_DECAM_BENCH_EXPOSURES") or 10**9)
"""How many of the real survey's exposures are registered: 8,915 take some minutes."""


def registry_figures(parts: Sequence[str]) -> Iterator[dict]:
    """Yield what a repository on a Postgres cluster of its own does: nights (``registry``), a whole ``survey``."""
    with on_postgres() as (repository, folder):
        if "registry" in parts:
            yield from raw_figures(repository, folder / "images")
            yield from writer_figures(repository, folder / "images")
        if "survey" in parts:
            yield from survey_figures(repository, folder / "survey")


@contextlib.contextmanager
def on_postgres() -> Iterator[tuple["Repository", Path]]:
    """Make a repository on a cluster, in a folder that the server's user may enter."""
    from proc_decam_dagster.database import create_database, stop_database
    from proc_decam_dagster.repository import open_repository

    with tempfile.TemporaryDirectory(prefix="decam-bench-registry-") as name:
        folder, root = Path(name), Path(name) / "repo"
        folder.chmod(0o755)
        os.environ["LSST_DB_AUTH"] = str(folder / "secret" / "db-auth.yaml")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        create_database(root, port=port, say=_tell)
        try:
            repository = open_repository(root)
            yield repository, folder
            repository.close()
        finally:
            stop_database(root)


def _tell(text: str) -> None:
    print(f"execution: {text}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)


def raw_figures(repository: "Repository", images: Path) -> Iterator[dict]:
    """Register a night's raws, as `ingest` does."""
    from proc_decam_dagster.repository import ingest_raws, tag_raws

    table = tiny_night(images, NIGHT, EXPOSURES)
    number = len(table) * len(DETECTORS)
    start, work = time.perf_counter(), time.process_time()
    report = ingest_raws(repository, table, images)
    report.raise_on_failure()
    seconds = time.perf_counter() - start
    what = f"Postgres: {number} raws ingested with their dimension records"
    rate = number / seconds
    yield figure(f"{what}, headers read", round(rate), "datasets/s", 700, rate >= 700)
    yield figure(f"{what}, processor of this process", round(time.process_time() - work, 2), "s")
    start = time.perf_counter()
    tag_raws(repository, NIGHT, "bias")
    yield figure(f"Postgres: {number} raws tagged", round(number / (time.perf_counter() - start)), "datasets/s")


def _files(repository: "Repository", path: str, numbers: list[int], day: int) -> list[Any]:
    """Return raw files of given exposures of a day, all of them one file on disk."""
    template = repository.engine.read_raw(path)
    names = ({"id": n, "obs_id": f"x{n}", "group": f"g{n}", "day_obs": day} for n in numbers)
    return [replace(template, exposure=name["id"], record=template.record | name) for name in names]


def _write(root: Path, files: list[Any], run: str, begin: Any, outcome: Any) -> None:
    """Register exposures; the body of a writer's process."""
    from proc_decam_dagster.repository import Repository

    try:
        repository = Repository(root)
        butler, engine = repository.butler(writeable=True), repository.engine
        begin.wait()
        for first in range(0, len(files), PART):
            engine.ingest_raws(butler, files[first : first + PART], transfer="direct", run=run)
        outcome.put("")
    except BaseException as error:
        outcome.put(f"{type(error).__name__}: {error}")
        raise


def writer_figures(repository: "Repository", images: Path) -> Iterator[dict]:
    """Let writers register raws of one new day at the same time."""
    path = str(next(images.glob("*_ori.fits.fz")))
    context = multiprocessing.get_context("fork")
    for writers in WRITERS:
        begin, outcome = context.Barrier(writers + 1), context.Queue()
        processes = []
        for writer in range(writers):
            first = 950_000 + writers * 10_000 + writer * EACH
            files = _files(repository, path, list(range(first, first + EACH)), 20190500 + writers)
            run = f"bench/{writers}/{writer}"
            processes.append(context.Process(target=_write, args=(repository.root, files, run, begin, outcome)))
        for process in processes:
            process.start()
        begin.wait()
        start = time.perf_counter()
        errors = [said for said in (outcome.get() for _ in processes) if said]
        seconds = time.perf_counter() - start
        for process in processes:
            process.join()
        number = writers * EACH * len(DETECTORS)
        what = f"Postgres, {writers} writers at once" if writers > 1 else "Postgres, one writer"
        yield figure(f"{what}: {number} raws in transactions of {PART * len(DETECTORS)}", round(number / seconds),
                     "datasets/s")  # fmt: skip
        for error in errors:
            _tell(f"writer: {error}")
        yield figure(f"{what}: errors", len(errors), "", 0, not errors)


def survey_figures(repository: "Repository", images: Path) -> Iterator[dict]:
    """Register the real survey's exposures, then ask for a night."""
    from astropy.table import Table

    from proc_decam_dagster.repository.raws import BATCH, raw_refs

    if not TABLE.is_file():
        return
    table = Table.read(TABLE)[:SURVEY]
    path = str(tiny_raw(FIRST, images / "raw.fits"))
    nights: dict[int, set[int]] = {}
    for row in table:
        nights.setdefault(int(row["night"]), set()).add(int(row["EXPNUM"]))
    files = [file for night, numbers in sorted(nights.items())
             for file in _files(repository, path, sorted(numbers), night)]  # fmt: skip
    butler, rates = repository.butler(writeable=True), []
    begin = time.perf_counter()
    for first in range(0, len(files), BATCH):
        batch, start = files[first : first + BATCH], time.perf_counter()
        repository.engine.ingest_raws(butler, batch, transfer="direct", run="bench/survey")
        rates.append(len(batch) * len(DETECTORS) / (time.perf_counter() - start))
        if first % (20 * BATCH) == 0:
            _tell(f"{first + len(batch)} of {len(files)} exposures, {rates[-1]:.0f} datasets/s")
    seconds, number = time.perf_counter() - begin, len(files) * len(DETECTORS)
    what = f"Postgres, {len(files)} exposures of the survey, {number} raws"
    yield figure(f"{what}: registered", round(seconds), "s")
    yield figure(f"{what}: the last tenth", round(statistics.mean(rates[-max(len(rates) // 10, 1) :])), "datasets/s")
    night = max(nights, key=lambda n: len(nights[n]))
    for name, ask in (
        ("raws by exposure number", lambda: raw_refs(repository, nights[night], "bench/survey")),
        ("raws by day", lambda: butler.query_datasets(
            "raw", "bench/survey", where="instrument='DECam' AND exposure.day_obs=night", bind={"night": night},
            limit=None)),
    ):  # fmt: skip
        times = []
        for _ in range(3):
            start = time.perf_counter()
            found = len(ask())
            times.append(time.perf_counter() - start)
        value = statistics.median(times)
        yield figure(f"{what}: {found} {name} of a night", round(value, 2), "s", 2.0, value < 2)
