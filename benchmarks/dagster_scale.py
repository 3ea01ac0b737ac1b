"""A survey of 1,000 nights, 20 subsets and 4 template types in Dagster: what its pages and its sensors take."""

import hashlib
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_figures import REPEATS, figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

if TYPE_CHECKING:
    import dagster as dg

NIGHTS, SUBSETS, FILES_A_NIGHT = 1000, 20, 20
ENOUGH_SECONDS = 20.0
"""A page that takes as long is not asked for again."""

PAGE = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionStats { numMaterialized numPartitions numFailed numMaterializing }
    partitionKeysByDimension { name partitionKeys }
    assetPartitionStatuses { __typename
        ... on DefaultPartitionStatuses { materializedPartitions failedPartitions }
        ... on MultiPartitionStatuses { primaryDimensionName
            ranges { primaryDimStartKey primaryDimEndKey secondaryDim { ... on DefaultPartitionStatuses {
                materializedPartitions failedPartitions } } } } }
    assetMaterializations(limit: 20) { runId timestamp partition metadataEntries { label } }
    dependencyKeys { path } dependedByKeys { path } } } }"""
PREVIEW = """query($params: AssetBackfillPreviewParams!) { assetBackfillPreview(params: $params) {
    assetKey { path } partitions { partitionKeys ranges { start end } } } }"""
GRAPH = """{ assetNodes { assetKey { path } groupName kinds description dependencyKeys { path }
    partitionStats { numMaterialized numPartitions numFailed numMaterializing } } }"""


def scale_figures(folder: Path) -> Iterator[dict]:
    """Pages and ticks."""
    from dagster_services import Services

    survey = folder / "data"
    services = Services(folder / "home", {"PROC_DECAM_REPO": str(folder / "repo"), "PROC_DECAM_DATA": str(survey)})
    with services.instance() as instance:
        start = time.perf_counter()
        count = register(instance)
        print(f"dagster: {count} materialisations in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        try:
            services.start("code", "web")
            yield from page_figures(services, count)
        finally:
            services.stop()
        make_ledger(survey)
        yield from tick_figures(instance, survey)


def nights() -> list[str]:
    """Return the nights, over ten years."""
    from datetime import date, timedelta

    first = date(2013, 1, 1)
    return [f"{first + timedelta(days=3 * i):%Y%m%d}" for i in range(NIGHTS)]


def register(instance: "dg.DagsterInstance") -> int:
    """Register all partitions, and a materialisation of each partition of each asset; return their number."""
    from proc_decam_dagster.assets.lineage import PARTITIONS, PER_TEMPLATE_TYPE, asset_key
    from proc_decam_dagster.partitions import COADD_SUBSETS, add_coadd_subset, add_nights, cell
    from proc_decam_dagster.partitions import NIGHTS as BY_NIGHT
    from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES

    subsets = [f"subset{i:02d}" for i in range(SUBSETS)]
    add_nights(instance, nights())
    for subset in subsets:
        add_coadd_subset(instance, subset)
    count = 0
    for name, definition in PARTITIONS.items():
        if definition is BY_NIGHT:
            keys: list[Any] = nights()
        elif definition is COADD_SUBSETS:
            keys = subsets
        else:
            keys = [cell(night, subset) for night in nights() for subset in subsets]
        for template_type in TEMPLATE_TYPES if name in PER_TEMPLATE_TYPE else ("",):
            count += store(instance, asset_key(name, template_type), keys)
    return count


def store(instance: "dg.DagsterInstance", key: "dg.AssetKey", partitions: list[Any]) -> int:
    """Enter materialisations: one by Dagster's own interface, and the rest as it stores them, in one transaction."""
    import dagster as dg
    from dagster._core.definitions.partitions.utils import get_tags_from_multi_partition_key
    from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable

    def told(partition: Any) -> dg.AssetMaterialization:
        # Each night has got a file since: the most that a tick may find to do.
        multi = isinstance(partition, dg.MultiPartitionKey)
        tags = get_tags_from_multi_partition_key(partition) if multi else {}
        return dg.AssetMaterialization(
            key, partition=partition, metadata={"seconds": 1.0, "files": FILES_A_NIGHT - 1}, tags=tags
        )

    instance.report_runless_asset_event(told(partitions[-1]))
    record = instance.fetch_materializations(key, limit=1).records[0]
    storage, entry, when = instance.event_log_storage, record.event_log_entry, _time(record)
    with storage.index_connection() as connection:
        (last,) = connection.exec_driver_sql("SELECT max(id) FROM event_logs").fetchone()
        events, tags = [], []
        for number, partition in enumerate(partitions[:-1], start=last + 1):
            event = entry.dagster_event
            data = event.event_specific_data._replace(materialization=told(partition))
            made = entry._replace(dagster_event=event._replace(event_specific_data=data))
            events.append({
                "id": number, "run_id": entry.run_id, "event": dg.serialize_value(made), "timestamp": when,
                "dagster_event_type": event.event_type_value, "asset_key": key.to_string(), "partition": str(partition),
            })  # fmt: skip
            tags += [
                {"key": k, "value": v, "event_id": number, "asset_key": key.to_string(), "event_timestamp": when}
                for k, v in data.materialization.tags.items()
            ]  # fmt: skip
        if events:
            connection.execute(SqlEventLogStorageTable.insert(), events)
        if tags:
            connection.execute(AssetEventTagsTable.insert(), tags)
    return len(partitions)


def _time(record: "dg.EventLogRecord"):
    from datetime import UTC, datetime

    return datetime.fromtimestamp(record.timestamp, UTC).replace(tzinfo=None)


def page_figures(services: Any, count: int) -> Iterator[dict]:
    """Seconds of the web server's answers behind pages; each is asked for several times, the first included.

    A preview looks at all that is downstream, and Dagster reads the subsets from its storage once a night and asset.
    """

    def seconds(query: str, **variables: Any) -> tuple[float, dict]:
        times: list[float] = []
        while len(times) < REPEATS and sum(times) < ENOUGH_SECONDS:
            start = time.perf_counter()
            answer = services.graphql(query, **variables)
            times.append(time.perf_counter() - start)
        print(f"dagster: {[round(t, 2) for t in times]}", file=sys.stderr)
        return statistics.median(times), answer

    known = f"{NIGHTS} nights, {SUBSETS} subsets, {count} materialisations"
    for path in (["calexps"], ["meanclip", "coadds"], ["meanclip", "coadd_inputs"], ["meanclip", "diffs"]):
        value, answer = seconds(PAGE, key={"path": path})
        stats = answer["assetNodeOrError"]["partitionStats"]
        assert stats["numMaterialized"] == stats["numPartitions"] > 0, answer
        yield figure(f"asset page of {'/'.join(path)}: {known}", value, "s", 2.0)
    some = nights()[: NIGHTS // 2]
    cells = [f"subset03|{night}" for night in some]
    for name, paths, keys in (
        ("bias, flat and calexps", [["bias"], ["flat"], ["calexps"]], some[:30]),
        ("bias, flat and calexps", [["bias"], ["flat"], ["calexps"]], some),
        ("diffs of one subset", [["meanclip", "diffs"]], cells),
    ):
        params = {"assetSelection": [{"path": path} for path in paths], "partitionNames": keys}
        value, answer = seconds(PREVIEW, params=params)
        assert len(answer["assetBackfillPreview"]) == len(paths)
        yield figure(f"preview of a backfill, {len(keys)} partitions, {name}: {known}", value, "s", 2.0)
    value, _ = seconds(GRAPH)
    yield figure(f"asset graph with the counts of all assets: {known}", value, "s")


def make_ledger(folder: Path) -> None:
    """Make an exposure table, and a ledger that knows all of its files as verified."""
    from astropy.table import Table

    from proc_decam_dagster.archive.ledger import Ledger, ledger_file_of
    from proc_decam_dagster.archive.outcomes import FileResult, Outcome
    from proc_decam_dagster.resources import Survey
    from proc_decam_dagster.survey.exposures import file_name, write_exposures

    survey = Survey(data_dir=str(folder))
    survey.images.mkdir(parents=True)
    rows = [(night, "object" if f else "zero") for night in nights() for f in range(FILES_A_NIGHT)]
    md5s = [hashlib.md5(b"%d" % number).hexdigest() for number in range(len(rows))]
    table = Table({
        "obs_type": [kind for _, kind in rows], "md5sum": md5s,
        "caldat": [f"{night[:4]}-{night[4:6]}-{night[6:]}" for night, _ in rows],
        "archive_filename": [f"/net/archive/c4d_{number}.fits.fz" for number in range(len(rows))],
        "EXPNUM": list(range(len(rows))), "night": [int(night) for night, _ in rows], "band": ["r"] * len(rows),
    })  # fmt: skip
    write_exposures(table, survey.exposures_file)
    paths = [survey.images / file_name(row) for row in table]
    for path in paths:
        path.write_bytes(b"1")
    with Ledger(ledger_file_of(survey.exposures_file)) as ledger:
        ledger.want((md5, path.name, path, "object") for md5, path in zip(md5s, paths, strict=True))
        ledger.record([
            FileResult(path, md5, Outcome.VERIFIED, fetched=True, bytes=1, attempts=1)
            for md5, path in zip(md5s, paths, strict=True)
        ])  # fmt: skip


def tick_figures(instance: "dg.DagsterInstance", folder: Path) -> Iterator[dict]:
    """Processor seconds of a tick of the sensors that look at files, runs and partitions: the first, and the next.

    With ``process_ready_nights`` on, the third finds as many nights new as `new_downloads` ingests at once.
    """
    import dagster as dg
    from dagster._core.definitions.partitions.context import partition_loading_context

    from proc_decam_dagster.assets.lineage import asset_key
    from proc_decam_dagster.definitions import build_definitions
    from proc_decam_dagster.resources import Survey
    from proc_decam_dagster.sensors import SENSORS
    from proc_decam_dagster.sensors.downloads import NIGHTS_A_TICK

    raws = asset_key("raws")
    for name in ("curated_calibs", "skymap", "defects", "refcats"):  # what nights wait for
        instance.report_runless_asset_event(dg.AssetMaterialization(asset_key(name)))
    definitions = build_definitions(survey=Survey(data_dir=str(folder)))
    survey = {"survey": Survey(data_dir=str(folder))}
    files = f"{NIGHTS * FILES_A_NIGHT} files of {NIGHTS} nights"
    for sensor in SENSORS:
        if sensor.name not in ("new_downloads", "dead_runs", "process_ready_nights"):
            continue  # the others ask the archive, or wait for a run that failed
        cursor = None
        automatic = isinstance(sensor, dg.AutomationConditionSensorDefinition)
        for tick in ("first", "second", "third"):
            if automatic and tick == "third":  # the raws of so many nights come at once
                store(instance, raws, nights()[-NIGHTS_A_TICK:])
            start = time.process_time()
            if automatic:
                result = dg.evaluate_automation_conditions(
                    definitions, instance, asset_selection=sensor.asset_selection, cursor=cursor
                )
            else:
                context = dg.build_sensor_context(
                    instance=instance, cursor=cursor, definitions=definitions, sensor_name=sensor.name,
                    resources={k: v for k, v in survey.items() if k in sensor.required_resource_keys},
                )  # fmt: skip
                with partition_loading_context(dynamic_partitions_store=instance):  # as Dagster's code server does
                    result = sensor.evaluate_tick(context)
            seconds, cursor = time.process_time() - start, result.cursor
            asked = result.total_requested if automatic else len(result.run_requests or ())
            yield figure(f"{tick} tick of {sensor.name}, {asked} requests: {files}", seconds, "s", 5.0)
