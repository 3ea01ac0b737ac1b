"""Downloads: nights of verified files are registered, and ingested when nothing is left to wait for."""

import json
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from proc_decam_dagster.assets.survey import raws
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.resources import Survey
from proc_decam_dagster.sensors.requests import UNDER_WAY, is_due, is_over, records_of
from proc_decam_dagster.sensors.sensor import survey_sensor

if TYPE_CHECKING:
    from astropy.table import Table

    from proc_decam_dagster.archive.readiness import NightFiles

NIGHTS_A_TICK = 100
"""Nights that one tick looks at, and that are asked for at once; the next tick goes on."""


@survey_sensor(asset_selection=[raws], minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def new_downloads(context: dg.SensorEvaluationContext, survey: Survey) -> dg.SensorResult | dg.SkipReason:
    """See verified downloads, register their nights, and request that a night that is ready be ingested.

    A night is ready when each of its files is verified or known never to be had; with `PROC_DECAM_PARTIAL`, when no
    file has come since the last tick. More files later make it ready again. A request that failed is repeated.
    """
    from proc_decam_dagster.archive import known_files, night_files
    from proc_decam_dagster.survey.exposures import rows_of_nights

    if not survey.exposures_file.is_file():
        return dg.SkipReason(f"there is no exposure table {survey.exposures_file} yet: materialise `exposures`")
    # done: night → files that it was last asked for with; asked: night → tries of what is not over; seen: files;
    # last: the last night that was looked at.
    cursor = {"done": {}, "asked": {}, "seen": {}, "last": ""} | json.loads(context.cursor or "{}")
    done, asked = cursor["done"], cursor["asked"]
    table, known = _table(survey.exposures_file), known_files(survey.images, survey.exposures_file)
    told = {night: f for night, f in night_files(table, known, look=False).items() if f.verified}
    registered = set(context.instance.get_dynamic_partitions(NIGHTS.name))

    def is_ready(night: str, files: "NightFiles") -> bool:
        return files.ready or (survey.partial and cursor["seen"].get(night) == len(files.verified))

    keys = {night: _key(night, done[night], tries) for night, tries in asked.items()}
    records = records_of(context.instance, keys.values())
    wanted = {night: asked[night] + 1 for night, key in keys.items() if is_due(records.get(key), asked[night])}
    # A request without a run was launched by the last tick, and the run deleted since.
    over = {night for night, key in keys.items() if key not in records or is_over(records[key], asked[night])}

    changed = {n for n, f in told.items() if done.get(n) != len(f.verified) and is_ready(n, f)}
    room = NIGHTS_A_TICK - len(asked.keys() - over - changed)
    page = _page(told.keys() - registered | changed, cursor["last"], room)
    # What the ledger tells is believed of all nights, and only these are looked for on the disk.
    found = {n: f for n, f in night_files(rows_of_nights(table, page), known).items() if f.verified}
    busy = _nights_under_way(context.instance, changed & found.keys())
    ready = {n: len(f.verified) for n, f in found.items() if n in changed and n not in busy and is_ready(n, f)}
    ingested = _files_ingested(context.instance, ready)
    for night, count in ready.items():
        done[night] = count
        for old in (asked, wanted):
            old.pop(night, None)
        if ingested.get(night) != count:
            wanted[night] = 1
            over.discard(night)
    cursor["asked"] = {night: tries for night, tries in (asked | wanted).items() if night not in over}
    cursor["seen"] = {night: len(f.verified) for night, f in told.items()} if survey.partial else {}
    cursor["last"] = page[-1] if page else cursor["last"]
    new = sorted(found.keys() - registered)
    if not new and not wanted:
        context.update_cursor(json.dumps(cursor))
        return dg.SkipReason("no night has new downloads")
    return dg.SensorResult(
        run_requests=[
            # A run key is used once: a night is ingested again when its number of files changes, or after a failure.
            dg.RunRequest(run_key=_key(night, done[night], tries), partition_key=night, tags={"decam/night": night})
            for night, tries in sorted(wanted.items())
        ],
        dynamic_partitions_requests=[NIGHTS.build_add_request(new)] if new else [],
        cursor=json.dumps(cursor),
    )


def _key(night: str, files: int, tries: int) -> str:
    return f"raws-{night}-{files}-{tries}"


def _table(path: Path) -> "Table":
    """Return the exposure table; it is read again when somebody has written it."""
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, *_: int) -> "Table":
    from proc_decam_dagster.survey.exposures import read_exposures

    return read_exposures(path)


def _page(nights: Iterable[str], last: str, size: int) -> list[str]:
    """Return some nights, those after the last one first: one that is looked at in vain keeps no other waiting."""
    return sorted(nights, key=lambda night: (night <= last, night))[: max(size, 0)]


def _nights_under_way(instance: dg.DagsterInstance, nights: Collection[str]) -> set[str]:
    """Return those nights whose raws a run is to ingest already; they are looked at again when it has ended."""
    if not nights:
        return set()
    runs = instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY, tags={"dagster/partition": sorted(nights)}))
    return {run.tags["dagster/partition"] for run in runs if raws.key in (run.asset_selection or ())}


def _files_ingested(instance: dg.DagsterInstance, nights: Collection[str]) -> Mapping[str, int | None]:
    """Return the number of files that nights' raws had when they were materialised last, if it was told."""
    files: dict[str, int | None] = {}
    left, at = set(nights), None
    while left:
        wanted = dg.AssetRecordsFilter(asset_key=raws.key, asset_partitions=sorted(left))
        page = instance.fetch_materializations(wanted, limit=NIGHTS_A_TICK, cursor=at)
        for record in page.records:  # the newest first
            made = record.asset_materialization
            number = made.metadata.get("files")  # a person may have reported it without
            files.setdefault(made.partition, number.value if number else None)
        left, at = left - files.keys(), page.cursor
        if not page.has_more:
            break
    return files
