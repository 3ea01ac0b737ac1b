"""`release_failures`: transient failures of a RUN get all their attempts anew."""

import json
import time
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.attempts import FAILED, LOST, RELEASED, Attempt, FailedQuantum
from proc_decam_dagster.execution.failures import is_transient
from proc_decam_dagster.execution.graph import failed_without_ledger
from proc_decam_dagster.execution.ledger import Ledger

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


def release_failures(repository: "Repository", run: str) -> tuple[list[FailedQuantum], list[FailedQuantum]]:
    """Let the quanta of a RUN that failed for a transient reason be run again, however often they were tried.

    Failures of runs that others made are judged by their logs. Nothing is deleted: the release is noted in the ledger.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    run : `str`
        A RUN, ``{chain}/{pipeline}/{step}/{stamp}``.

    Returns
    -------
    released, kept : `list` [`FailedQuantum`]
        Those that the next run of the step takes up, and those whose cause is no passing one.

    Raises
    ------
    SurveyError
        If there is no such RUN.
    """
    butler = repository.butler()
    parts = run.rsplit("/", 3)
    # A pattern, because the query for a name that does not exist is an error of its own.
    if len(parts) != 4 or run not in butler.collections.query(f"{parts[0]}/*"):
        raise SurveyError(
            f"RUN {run} does not exist in {repository.root}", "{chain}/{pipeline}/{step}/{stamp}",
            f"`butler query-collections {repository.root} --collection-type RUN` lists all",
        )  # fmt: skip
    chain, _, step, _ = parts
    ledger = Ledger.of(repository)
    attempts = ledger.attempts(chain)
    last_run = {(a.task, a.data_id): a.run for a in attempts if a.outcome in (FAILED, LOST)}
    failed = ledger.failed(chain, {a.task for a in attempts})
    found = [f for name, f in failed.items() if last_run.get(name) == run]
    found += _failed_elsewhere(butler, chain, run, {(a.task, a.data_id) for a in attempts})
    released = [f for f in found if f.transient]
    ledger.record(
        Attempt(*f.name, time.time(), 0.0, 0.0, 0.0, RELEASED, f.exception, f.message, True, chain, run, step)
        for f in released
    )
    return released, [f for f in found if not f.transient]


def _failed_elsewhere(butler: Any, chain: str, run: str, known: set) -> list[FailedQuantum]:
    """Return the failures of a RUN that the ledger knows nothing of, with what their logs say last."""
    logs = [t for t in butler.collections.get_info(run, include_summary=True).dataset_types or () if t.endswith("_log")]
    found = []
    for task, data_id in sorted(failed_without_ledger(butler, [t.removesuffix("_log") for t in logs], chain, known)):
        dimensions = json.loads(data_id)
        ref = butler.find_dataset(f"{task}_log", dimensions, collections=[run])
        if ref is None:
            continue
        records = [r.message for r in butler.get(ref)]
        transient = any(is_transient([], message) for message in records)
        found.append(FailedQuantum(task, dimensions, "Unknown", records[-1] if records else "", transient, 1))
    return found
