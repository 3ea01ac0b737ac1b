"""Raw files into the repository: found on disk, headers read in parallel, ingested, tagged by night."""

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError, disk_full
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.exclusions import exclusions
from proc_decam_dagster.repository.presence import has_collection, has_dataset_type
from proc_decam_dagster.repository.replacement import replaced
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.repository.settings import write_whole
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import RAW_ALL, raw_collection
from proc_decam_dagster.survey.exposures import file_name, rows_of_nights, rows_of_obs_type
from proc_decam_dagster.survey.proc_types import proc_type as proc_type_row

log = logging.getLogger(__name__)

TRANSFERS = ("direct", "copy", "symlink", "hardlink", "link", "relsymlink")
BATCH = 100
"""Raw files ingested in one transaction: what an interruption can cost."""
POOL_FROM = 48
"""From this number of files on, headers are read in other processes: to start those costs as much as to read these."""
QUERY_CHUNK = 2000
KILLED = "the process that read its header was killed; run it again if memory was short"


class AllExcluded(SurveyError):
    """The survey's list leaves out all raws of a night: there is nothing to do, and nothing is wrong."""


@dataclass
class IngestReport:
    """What became of each raw file.

    Attributes
    ----------
    ingested, existing : `int`
        Number of exposures that are new in the repository, and of those that were there before.
    exposures : `list` [`int`]
        Those that are new.
    failed : `list` [`tuple` [`str`, `str`]]
        Path and reason of each file that could not be ingested.
    """

    ingested: int = 0
    existing: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    exposures: list[int] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every file is in the repository."""
        return not self.failed

    def raise_on_failure(self) -> None:
        """Raise one `SurveyError` that names the files that failed; does nothing if none did."""
        if self.failed:
            shown = "; ".join(f"{os.path.basename(path)}: {reason}" for path, reason in self.failed[:5])
            more = f" … and {len(self.failed) - 5} more" if len(self.failed) > 5 else ""
            raise SurveyError(
                f"{len(self.failed)} raw files were not ingested ({shown}{more})",
                "whole DECam raws",
                "mend that, or fetch missing and damaged files with `proc-decam download`, and run it again",
            )


def ingest_raws(
    repo: Repository,
    exposures: Table,
    image_dir: str | os.PathLike,
    *,
    transfer: str = "direct",
    jobs: int = 4,
    reingest: bool = False,
    collection: str = RAW_ALL,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Ingest the raw files of an exposure table.

    The table is remembered: it decides, by exposure number, which night a raw belongs to. Files whose exposure is
    in the repository already are not opened; a bad file is a named failure and the others go on.

    Parameters
    ----------
    exposures : `astropy.table.Table`
        Rows other than raw frames are left out.
    image_dir : path-like
        Folder of ``{md5}_{archive name}`` files; the ledger there or above may name other paths.
    transfer : `str`
        How the Butler takes the files: ``direct`` (where they lie), ``copy``, ``symlink``, …
    jobs : `int`
        Processes that read headers.
    reingest : `bool`
        Replace exposures that are there; their tags are made again by `tag_raws`.
    progress : callable, optional
        Called with the number of files done and of all.

    Raises
    ------
    SurveyError
        If the transfer mode is unknown, or the disk is full.
    """
    if transfer not in TRANSFERS:
        raise SurveyError(f"transfer mode {transfer!r} is unknown", f"one of {', '.join(TRANSFERS)}")
    if "proc_type" in exposures.colnames:
        exposures = exposures[np.asarray(exposures["proc_type"]).astype(str) == "raw"]
    repo.remember_exposures(exposures)
    report = IngestReport()
    with repo.lock("ingest", wait_seconds=3600, on_wait=log.info):
        wanted = _wanted_files(repo, exposures, Path(image_dir), collection, reingest, report)
        if not wanted:
            return report
        butler = repo.butler(writeable=True)
        known = _read_known(repo)
        done = 0
        for batch in _batches(_read_headers(repo.engine, wanted, jobs, report), BATCH):
            _ingest_batch(repo, butler, batch, transfer, collection, reingest, report)
            fresh = set(report.exposures)
            known |= {md5: raw.exposure for raw, md5 in batch if raw.exposure in fresh}
            write_whole(_known_path(repo), json.dumps(known))
            done += len(batch)
            if progress:
                progress(min(done + len(report.failed), len(wanted)), len(wanted))
    return report


def ingested_exposures(repo: Repository, numbers: Iterable[int], collection: str = RAW_ALL) -> set[int]:
    """Return those of the given exposures that have raws in the repository."""
    butler = repo.butler()
    numbers = sorted({int(n) for n in numbers})
    if not _has_raws(butler, collection):
        return set()
    found: set[int] = set()
    for start in range(0, len(numbers), QUERY_CHUNK):
        with butler.query() as query:
            query = query.join_dataset_search(datasets.RAW, [collection]).where(
                f"instrument='{INSTRUMENT}' AND exposure IN (numbers)",
                bind={"numbers": numbers[start : start + QUERY_CHUNK]},
            )
            found |= {d["exposure"] for d in query.data_ids(["exposure"])}
    return found


def tag_raws(repo: Repository, night: str, proc_type: str) -> int:
    """Tag a night's raws for a proc type into ``{night}/{proc_type}/raw`` and return their number.

    The collection becomes exactly what the exposure table says: a raw that the table no longer gives to this night
    leaves it, and so does one that the survey's list leaves out. Frames of the table that are not ingested are logged.

    Raises
    ------
    SurveyError
        If the table has no such frames for the night, or none of them is ingested.
    AllExcluded
        If the list leaves all of them out.
    """
    row = proc_type_row(proc_type)
    if row.obs_type is None:
        raise SurveyError(f"proc type {row.name} has no raws", "bias, flat or drp")
    numbers = night_exposures(repo, night, row.obs_type)
    refs = raw_refs(repo, numbers)
    found = {ref.dataId["exposure"] for ref in refs}
    missing = sorted(set(numbers) - found)
    if not refs:
        raise SurveyError(
            f"none of the {len(numbers)} {row.obs_type} frames of night {night} is in {repo.root}",
            fix=f"ingest them with `proc-decam ingest EXPOSURES_FILE -b {repo.root} --image-dir IMAGES`",
        )
    if missing:
        log.warning("night %s: %d %s frames are not ingested: %s", night, len(missing), row.obs_type, missing)
    refs = _not_excluded(repo, refs, night)
    tag = raw_collection(night, row.name)
    butler, current, wanted = repo.butler(), set(), set(refs)
    if has_collection(butler, tag):
        current = set(butler.query_datasets(datasets.RAW, [tag], find_first=False, limit=None, explain=False))
    if current != wanted:
        butler = repo.butler(writeable=True)
        butler.collections.register(tag, CollectionType.TAGGED)
        with butler.transaction():
            butler.registry.disassociate(tag, current - wanted)
            butler.registry.associate(tag, wanted - current)
    return len(refs)


def _not_excluded(repo: Repository, refs: list[Any], night: str) -> list[Any]:
    """Return the raws of a night that the survey's list does not leave out."""
    listed = exclusions(repo)
    reasons = {ref: listed.reason(ref.dataId["exposure"], ref.dataId["detector"], night) for ref in refs}
    kept = [ref for ref, reason in reasons.items() if not reason]
    if not kept:
        raise _all_excluded(repo, f"{len(refs)} raws of night {night}", reasons.values())
    if len(kept) < len(refs):
        log.info("night %s: %d raws are left out by the list of exclusions", night, len(refs) - len(kept))
    return kept


def require_not_excluded(repo: Repository, numbers: Iterable[int], night: str) -> None:
    """Raise `AllExcluded` if the survey's list leaves out all of a night's exposures, ingested or not."""
    listed, numbers = exclusions(repo), list(numbers)
    reasons = [listed.reason(n, None, night) for n in numbers]
    if numbers and all(reasons):
        raise _all_excluded(repo, f"{len(numbers)} exposures of night {night}", reasons)


def _all_excluded(repo: Repository, what: str, reasons: Iterable[str]) -> AllExcluded:
    return AllExcluded(
        f"the list of exclusions leaves out all {what}: {'; '.join(sorted(set(reasons)))}",
        fix=f"`proc-decam exclusions {repo.root}` shows the list, `proc-decam include` takes an entry back",
    )


def night_exposures(repo: Repository, night: str, obs_type: str) -> list[int]:
    """Return the exposure numbers of a night's raw frames of one observation type, from the exposure table.

    Raises
    ------
    SurveyError
        If there are none.
    """
    rows = rows_of_obs_type(rows_of_nights(repo.known_exposures(), [night]), obs_type)
    if not len(rows):
        raise SurveyError(
            f"the exposure table of {repo.root} has no {obs_type} frames on night {night}",
            fix="fetch the night with `proc-decam exposures`, and ingest it with `proc-decam night`",
        )
    return sorted({int(n) for n in rows["EXPNUM"]})


def raw_refs(repo: Repository, numbers: Iterable[int], collection: str = RAW_ALL) -> list[Any]:
    """Return the refs of the raws of some exposures, all detectors."""
    butler = repo.butler()
    if not _has_raws(butler, collection):
        return []
    numbers = sorted(set(numbers))
    refs = []
    for start in range(0, len(numbers), QUERY_CHUNK):
        refs += butler.query_datasets(
            datasets.RAW, [collection], find_first=False, limit=None, explain=False,
            where=f"instrument='{INSTRUMENT}' AND exposure IN (numbers)",
            bind={"numbers": numbers[start : start + QUERY_CHUNK]},
        )  # fmt: skip
    return refs


def _has_raws(butler: Any, collection: str) -> bool:
    return has_dataset_type(butler, datasets.RAW) and has_collection(butler, collection)


def _known_path(repo: Repository) -> Path:
    return repo.state_dir / "ingested_raws.json"


def _read_known(repo: Repository) -> dict[str, int]:
    path = _known_path(repo)
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise SurveyError(
            f"{path} cannot be read ({error})", "JSON", "delete it: raws that are there are not ingested twice"
        ) from None


def _wanted_files(
    repo: Repository, exposures: Table, image_dir: Path, collection: str, reingest: bool, report: IngestReport
) -> list[tuple[str, str, int]]:
    """Return (path, md5, exposure) of the files to open; fills in what exists and what is missing."""
    present = ingested_exposures(repo, exposures["EXPNUM"], collection)
    known = _read_known(repo)
    downloaded = _downloaded(image_dir)
    wanted: dict[int, tuple[str, str, int]] = {}
    existing: set[int] = set()
    for row in exposures:
        md5, number = str(row["md5sum"]), int(row["EXPNUM"])
        path, valid = downloaded.get(md5, (image_dir / file_name(row), True))
        if (image_dir / file_name(row)).is_file():
            path = image_dir / file_name(row)
        if known.get(md5, number) != number:
            report.failed.append((str(path), f"ingested before as exposure {known[md5]}, but the table says {number}"))
        elif number in present and not reingest:
            existing.add(number)
        elif not path.is_file():
            report.failed.append((str(path), "the file does not exist; expected what `proc-decam download` writes"))
        elif not valid:
            report.failed.append((str(path), "its md5 on disk is wrong, as `proc-decam download` found"))
        else:
            # An exposure may be in the archive twice, under different md5s: one of its files is enough.
            wanted.setdefault(number, (str(path.resolve()), md5, number))
    report.existing = len(existing)
    return list(wanted.values())


def _downloaded(image_dir: Path) -> dict[str, tuple[Path, bool]]:
    """Return md5 → (path, whether it was valid on disk) from the ledgers of the downloads."""
    from proc_decam_dagster.archive import known_files

    return {md5: (Path(entry.path), entry.verified) for md5, entry in known_files(image_dir).items()}


def _read_one(engine: Any, path: str) -> tuple[Any, str]:
    """Read one file's headers; the reason if it cannot be read. Runs in another process."""
    try:
        return engine.read_raw(path), ""
    except SurveyError as error:
        return None, str(error)
    except Exception as error:  # one bad file must not stop the others: it is reported by name
        return None, f"{type(error).__name__}: {error}"


def _read_headers(
    engine: Any, wanted: list[tuple[str, str, int]], jobs: int, report: IngestReport
) -> Iterator[tuple[Any, str]]:
    """Yield (raw file, md5) as headers are read; failures go into the report."""

    def judged(item: tuple[str, str, int], raw: Any, reason: str) -> Iterator[tuple[Any, str]]:
        path, md5, number = item
        if raw is not None and raw.exposure != number:
            reason = f"its header says EXPNUM {raw.exposure}, but the exposure table says {number}"
        if reason:
            report.failed.append((path, reason))
        else:
            yield raw, md5

    if jobs <= 1 or len(wanted) < POOL_FROM:
        for item in wanted:
            yield from judged(item, *_read_one(engine, item[0]))
        return
    context = multiprocessing.get_context("forkserver")
    # Imported once and not in each process: that takes longer than reading a night's headers.
    context.set_forkserver_preload([type(engine).__module__, *engine.worker_modules])
    with ProcessPoolExecutor(min(jobs, len(wanted)), mp_context=context) as pool:
        futures = {pool.submit(_read_one, engine, item[0]): item for item in wanted}
        unread = []
        for future in as_completed(futures):
            if isinstance(future.exception(), BrokenProcessPool):
                unread.append(futures[future])
            else:
                yield from judged(futures[future], *future.result())
    while unread:  # a worker was killed, over which file is not told: one by one, until that is found
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            alive = True
            while unread and alive:
                item = unread.pop()
                future = pool.submit(_read_one, engine, item[0])
                alive = not isinstance(future.exception(), BrokenProcessPool)
                yield from judged(item, *(future.result() if alive else (None, KILLED)))


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ingest_batch(
    repo: Repository, butler: Any, batch: list[tuple[Any, str]], transfer: str, run: str, reingest: bool,
    report: IngestReport,
) -> None:  # fmt: skip
    """Ingest a batch at once; if that fails, one by one, so that only the file at fault is left out.

    What is replaced goes with the same transaction as its replacement comes: if that fails, it is still there.
    """
    files = [raw for raw, _ in batch]
    raws = partial(raw_refs, repo, [raw.exposure for raw in files], run)
    try:
        with replaced(repo, raws(), raws) if reingest else nullcontext():
            repo.engine.ingest_raws(butler, files, transfer=transfer, run=run)
        report.exposures += [raw.exposure for raw in files]
        report.ingested += len(files)
        return
    except Exception as error:
        if (full := disk_full(error)) is not None:
            raise full from error
        if len(files) == 1:
            report.failed.append((files[0].path, f"{type(error).__name__}: {error}"))
            return
    for raw in files:
        _ingest_batch(repo, butler, [(raw, "")], transfer, run, reingest, report)
