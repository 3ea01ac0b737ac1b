"""Whether a quantum that failed is tried again, with how much memory, and how its tries are given back."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.attempts import RELEASED, Attempt, FailedQuantum, QuantumName
from proc_decam_dagster.execution.failures import wants_memory
from proc_decam_dagster.execution.ledger import Ledger
from proc_decam_dagster.execution.memory import GROWTH
from proc_decam_dagster.execution.rebuild import rebuild

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

LOSSES = 10
"""How often a quantum may go down with its driver. That is seldom its own fault, and so it is more than `RETRIES` of a
step; but one that takes the whole machine with it must come to an end too."""


def tries_left(failed: FailedQuantum, retries: int) -> bool:
    """Whether a quantum that failed before is to be run again without being asked for."""
    return failed.transient and failed.attempts - failed.losses <= retries and failed.losses <= LOSSES


def memory_requests(before: Mapping[QuantumName, FailedQuantum], limit_mb: float) -> dict[QuantumName, float]:
    """Return what memory to ask for on behalf of the quanta that ran out of it the last time (MB).

    Every back end takes these: the local one bounds its workers by them, a batch system gets them as requests.

    Parameters
    ----------
    before : `~collections.abc.Mapping` [`QuantumName`, `FailedQuantum`]
        Failures of earlier runs, see `Ledger.failed`.
    limit_mb : `float`
        The most that can be asked for: the memory of the machine, or of a node.
    """
    return {
        name: min(GROWTH * failed.memory_requested_mb, limit_mb)
        for name, failed in before.items()
        if failed.memory_requested_mb and not failed.lost and wants_memory((failed.exception,), failed.message)
    }


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
    rebuild(repository, chain)
    ledger = Ledger.of(repository)
    found = [f for f in ledger.failures([chain]) if f.run == run]
    released = [f for f in found if f.transient]
    ledger.record(
        Attempt(*f.name, time.time(), 0.0, 0.0, 0.0, RELEASED, f.exception, f.message, True, chain, run, step)
        for f in released
    )
    return released, [f for f in found if not f.transient]
