"""The ledger rebuilt from the logs and metadata of RUNs that others have made, or whose records are gone."""

import builtins
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lsst.daf.butler import CollectionType, DatasetRef, MissingDatasetTypeError

from proc_decam_dagster.execution.attempts import FAILED, SUCCEEDED, Attempt, data_id_key
from proc_decam_dagster.execution.failures import is_transient
from proc_decam_dagster.execution.ledger import Ledger
from proc_decam_dagster.execution.standing import standing_of
from proc_decam_dagster.repository.chains import runs_of
from proc_decam_dagster.repository.presence import has_collection
from proc_decam_dagster.survey.collections import STAMP

if TYPE_CHECKING:
    from lsst.daf.butler import Butler

    from proc_decam_dagster.repository import Repository

BACKEND = "unknown"
_FAILED_LOG = re.compile(r"failed\. Exception (\w+): (.*)", re.DOTALL)
"""How the middleware's log ends where it holds nothing else on the exception, as those before v30 do."""


def rebuild(repository: "Repository", chain: str, *, resources: bool = False) -> list[Attempt]:
    """Enter the attempts of RUNs of which the ledger knows nothing: succeeded where there is metadata, else failed.

    A quantum that vanished without a log cannot be told from one that was never begun: the next graph has it.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    chain : `str`
        Whose RUNs.
    resources : `bool`, optional
        Also read time and memory of what succeeded, a file a quantum; they are 0 otherwise.

    Returns
    -------
    attempts : `list` [`Attempt`]
        What was found.
    """
    butler, ledger = repository.butler(), Ledger.of(repository)
    known = ledger.runs(chain)
    found: list[Attempt] = []
    for run in reversed(runs_with_logs(butler, chain, besides=known)):
        attempts = list(_attempts_of(butler, chain, run, resources))
        if not attempts:  # the RUN remembers dataset types of which it has none any more
            continue
        ledger.record(attempts)
        # Their drivers may have left out what failed before; the newest word on each quantum counts all the same.
        state = {(a.task, a.data_id): a.outcome for a in attempts}
        ended = max(a.started + a.seconds for a in attempts)
        ledger.record_step(chain, attempts[0].step, run, ended, 0.0, standing_of(state, [run]))
        found += attempts
    return found


def runs_with_logs(butler: "Butler", chain: str, besides: Collection[str] = ()) -> list[str]:
    """Return the RUNs that tasks have written for a chain, the newest first: named after it, or among its children."""
    runs = runs_of(butler, chain)
    if has_collection(butler, chain):
        children = butler.collections.query_info(butler.collections.get_info(chain).children, flatten_chains=False)
        runs += [info.name for info in children if info.type is CollectionType.RUN and info.name not in runs]
    return [run for run in runs if run not in besides and _tasks_with(butler, run, "_log")]


def _tasks_with(butler: "Butler", run: str, suffix: str) -> list[str]:
    types = butler.collections.get_info(run, include_summary=True).dataset_types or ()
    return sorted(name.removesuffix(suffix) for name in types if name.endswith(suffix))


def _attempts_of(butler: "Butler", chain: str, run: str, resources: bool) -> Iterator[Attempt]:
    parts = run.removeprefix(chain + "/").split("/")
    common = {"chain": chain, "run": run, "step": parts[-2] if len(parts) == 3 else "", "backend": BACKEND}
    logs, metadata = (
        {
            (task, data_id_key(dict(ref.dataId.required))): ref
            for task in tasks
            for ref in _refs(butler, task + suffix, run)
        }
        for suffix, tasks in ((s, _tasks_with(butler, run, s)) for s in ("_log", "_metadata"))
    )
    names = sorted(logs.keys() | metadata.keys())
    for name in names:
        if name in metadata:
            read = butler.get(metadata[name]) if resources else None
            tried = [{"outcome": SUCCEEDED} | _resources(read, run)]
        else:
            tried = _failures(butler.get(logs[name]), run)
        for n, values in enumerate(tried):
            yield Attempt(*name, **(values | common | {"key": f"{run}#{'#'.join(name)}#{n}"}))


def _refs(butler: "Butler", dataset_type: str, run: str) -> list[DatasetRef]:
    try:
        return butler.query_datasets(dataset_type, collections=run, limit=None, explain=False)
    except MissingDatasetTypeError:
        return []


def _failures(log: Any, run: str) -> list[dict[str, Any]]:
    """Return the failed attempts that a log tells of, the oldest first; the middleware keeps earlier ones in it."""
    extra = dict(log.extra or {})
    tried = [*(extra.get("previous_attempts") or ()), extra]
    found = []
    for i, one in enumerate(tried):
        records = list(log) if i == len(tried) - 1 else one.get("logs") or []
        texts = [r["message"] if isinstance(r, dict) else r.message for r in records]
        exception, message = "Unknown", texts[-1] if texts else "its log is empty"
        if one.get("exception"):
            exception = one["exception"]["type_name"].rsplit(".", 1)[-1]
            message = one["exception"]["message"]
        elif told := next((m for t in reversed(texts) if (m := _FAILED_LOG.search(t))), None):
            exception, message = told.groups()
        kind = getattr(builtins, exception, None)
        types = [c.__name__ for c in kind.__mro__] if isinstance(kind, type) else [exception]
        values = {"outcome": FAILED, "exception": exception, "message": message[:2000]}
        found.append(_resources(one.get("metadata"), run) | values | {"transient": is_transient(types, message)})
    return found


def _resources(metadata: Any, run: str) -> dict[str, Any]:
    """Return when an attempt began and what it took, from its metadata; the RUN's time stamp if there is none."""
    values = {"started": _stamp(run), "seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mb": 0.0}
    if metadata is None:
        return values
    whole = metadata if isinstance(metadata, dict) else metadata.model_dump()
    quantum = whole.get("metadata", {}).get("quantum", {})
    fields = {name: v[-1] for name, v in quantum.get("arrays", {}).items() if v} | quantum.get("scalars", {})
    try:
        begin, end = (datetime.fromisoformat(fields[name]) for name in ("prepUtc", "endUtc"))
        return values | {
            "started": begin.timestamp(), "seconds": (end - begin).total_seconds(),
            "cpu_seconds": fields["endCpuTime"] - fields["prepCpuTime"],
            "peak_memory_mb": fields["endMaxResidentSetSize"] / 2**20, "host": fields.get("nodeName", ""),
        }  # fmt: skip
    except KeyError:
        return values


def _stamp(run: str) -> float:
    try:
        return datetime.strptime(run.rsplit("/", 1)[-1], STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
