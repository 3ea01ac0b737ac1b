"""The Dagster instance of a survey of a thousand nights: it does not read the same list of partitions again and again.

To preview a backfill, Dagster asks for the list of coadd subsets once for every night and asset downstream: thousands
of queries for one answer. ``dagster.yaml`` names this class as ``instance_class``; without it everything works as well,
but slower.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef

MEMORY_SECONDS = 1.0
"""How old a list may be: what another process has added or deleted is seen after as long."""


class SurveyInstance(dg.DagsterInstance):
    """Dagster's own instance, but a list of dynamic partitions is remembered for a moment.

    Whether one partition exists is always asked of the storage.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lists: dict[str, tuple[float, Sequence[str]]] = {}

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """Return what this class adds to ``dagster.yaml``: nothing."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, Any]:
        """Return Dagster's own defaults, which it asks of a class of one's own."""
        return InstanceRef.config_defaults(base_dir)

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Return the partitions in the order in which they were added, as the storage had them a moment ago."""
        read_at, names = self._lists.get(partitions_def_name, (float("-inf"), ()))
        if time.monotonic() - read_at > MEMORY_SECONDS:
            read_at, names = time.monotonic(), super().get_dynamic_partitions(partitions_def_name)
            self._lists[partitions_def_name] = read_at, names
        return list(names)

    def add_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> None:
        """Add partitions; this instance sees them at once."""
        super().add_dynamic_partitions(partitions_def_name, partition_keys)
        self._lists.pop(partitions_def_name, None)

    def delete_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> None:
        """Delete a partition; this instance sees it no longer at once."""
        super().delete_dynamic_partition(partitions_def_name, partition_key)
        self._lists.pop(partitions_def_name, None)
