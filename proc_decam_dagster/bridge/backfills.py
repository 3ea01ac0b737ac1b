"""Backfills asked for from a terminal: nights by pattern, by what is missing, of several assets at once."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from proc_decam_dagster.assets.lineage import PARTITIONS, PER_TEMPLATE_TYPE, asset_key
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.partitions import COADD_SUBSETS, NIGHTS, NIGHTS_BY_SUBSET, cell
from proc_decam_dagster.survey.nights import matching_nights
from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES

_NO_TITLE = re.compile(r'[%*"]+')
"""What Dagster refuses in a title."""


@dataclass
class Wanted:
    """What a backfill would make.

    Attributes
    ----------
    partitions : `dict` [`dagster.AssetKey`, `list` [`str`]]
        Partitions of each asset, in the order of the asset graph.
    there : `dict` [`dagster.AssetKey`, `int`]
        Partitions that match and are left out, because they are materialised already.
    """

    partitions: dict[dg.AssetKey, list[str]] = field(default_factory=dict)
    there: dict[dg.AssetKey, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of materialisations."""
        return sum(map(len, self.partitions.values()))


def wanted(
    instance: dg.DagsterInstance, pattern: str, assets: Sequence[str], *, coadd_subset: str = "",
    template_types: Sequence[str] = (), missing: bool = False,
) -> Wanted:  # fmt: skip
    """Return the partitions of assets that a backfill would make.

    Parameters
    ----------
    instance : `dagster.DagsterInstance`
        Knows the nights.
    pattern : `str`
        Regular expression of nights.
    assets : sequence of `str`
        Names as the graph shows them: ``bias``, ``calexps``, ``coadds``; ``meanclip/coadds`` names the template type.
    coadd_subset, template_types : `str`, sequence of `str`
        For assets that have these.
    missing : `bool`
        Only partitions that were never materialised.

    Raises
    ------
    SurveyError
        If an asset does not exist or has no partitions, no night matches, or a subset or template type is needed.
    """
    keys = sorted({k for name in assets for k in _keys(name, template_types)}, key=_order)
    nights = matching_nights(pattern, instance.get_dynamic_partitions(NIGHTS.name))
    found = Wanted()
    for key in keys:
        names = _partitions(instance, key, nights, coadd_subset)
        done = instance.get_materialized_partitions(key) if missing else set()
        found.partitions[key] = [n for n in names if n not in done]
        found.there[key] = len(names) - len(found.partitions[key])
    return found


def open_instance() -> dg.DagsterInstance:
    """Return the survey's Dagster instance, that of ``DAGSTER_HOME``; it is a context manager.

    Raises
    ------
    SurveyError
        If the environment names none.
    """
    if not os.environ.get("DAGSTER_HOME"):
        raise SurveyError("DAGSTER_HOME is not set", "the folder of the Dagster instance", "`export DAGSTER_HOME=…`")
    return dg.DagsterInstance.get()


def daemon_runs(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon is at work that launches the runs of backfills."""
    from dagster._daemon.daemon import BackfillDaemon

    status = instance.get_daemon_statuses([BackfillDaemon.daemon_type()])
    return status[BackfillDaemon.daemon_type()].healthy is True


def request(instance: dg.DagsterInstance, found: Wanted, *, title: str) -> str:
    """Hand a backfill to the daemon, and return its id.

    Dagster's public interface to this is a web server's GraphQL, which a terminal may not have: the same record is
    written as its mutation `launchPartitionBackfill` does.
    """
    from dagster._core.execution.asset_backfill import AssetBackfillData
    from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
    from dagster._core.utils import make_new_backfill_id

    from proc_decam_dagster.definitions import defs

    graph = defs.resolve_asset_graph()
    now = time.time()
    partitions = {k: names for k, names in found.partitions.items() if names}
    backfill = PartitionBackfill(
        backfill_id=make_new_backfill_id(), status=BulkActionStatus.REQUESTED, from_failure=False,
        tags={"decam/asked_from": "terminal"}, backfill_timestamp=now, asset_selection=list(partitions),
        serialized_asset_backfill_data=None,
        asset_backfill_data=AssetBackfillData.from_asset_graph_subset(
            asset_graph_subset=_subset(graph, partitions), dynamic_partitions_store=instance,
            backfill_start_timestamp=now,
        ),
        title=_NO_TITLE.sub("…", title), description=None, run_config=None,
    )  # fmt: skip
    instance.add_backfill(backfill)
    return backfill.backfill_id


def _subset(graph: Any, partitions: Mapping[dg.AssetKey, Sequence[str]]) -> Any:
    from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset

    return AssetGraphSubset(
        partitions_subsets_by_asset_key={
            key: graph.get(key).partitions_def.empty_subset().with_partition_keys(names)
            for key, names in partitions.items()
        }
    )


def _keys(name: str, template_types: Sequence[str]) -> list[dg.AssetKey]:
    """Return the keys of an asset's name, one a template type."""
    prefix, _, asset = name.rpartition("/")
    if asset not in PARTITIONS or (prefix and (asset not in PER_TEMPLATE_TYPE or prefix not in TEMPLATE_TYPES)):
        raise SurveyError(f"asset {name!r} has no partitions or does not exist", f"some of {', '.join(PARTITIONS)}")
    if asset not in PER_TEMPLATE_TYPE:
        return [asset_key(asset)]
    chosen = [prefix] if prefix else list(template_types)
    if not chosen:
        raise SurveyError(f"{asset} has no template type", f"one of {', '.join(TEMPLATE_TYPES)}", "--template-types")
    if unknown := [t for t in chosen if t not in TEMPLATE_TYPES]:
        raise SurveyError(f"template type {unknown[0]!r} is unknown", f"one of {', '.join(TEMPLATE_TYPES)}")
    return [asset_key(asset, t) for t in chosen]


def _order(key: dg.AssetKey) -> tuple[int, str]:
    return list(PARTITIONS).index(key.path[-1]), str(key)


def _partitions(instance: dg.DagsterInstance, key: dg.AssetKey, nights: list[str], coadd_subset: str) -> list[str]:
    definition = PARTITIONS[key.path[-1]]
    if definition is NIGHTS:
        return nights
    known = instance.get_dynamic_partitions(COADD_SUBSETS.name)
    if not coadd_subset:
        raise SurveyError(f"{key.to_user_string()} has no coadd subset", "the name of one", "--coadd-subset")
    if coadd_subset not in known:
        raise SurveyError(
            f"coadd subset {coadd_subset!r} is no partition", f"one of {', '.join(known) or 'none yet'}",
            "add it in the UI, or materialise coadd_inputs with it",
        )  # fmt: skip
    return [str(cell(n, coadd_subset)) for n in nights] if definition is NIGHTS_BY_SUBSET else [coadd_subset]
