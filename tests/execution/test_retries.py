"""`release_failures`: failures that may pass are run again, others stay, nothing is deleted."""

import time

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import Ledger
from proc_decam_dagster.execution.attempts import FAILED, Attempt, data_id_key
from proc_decam_dagster.execution.retries import release_failures

CHAIN = "20190401/bias"
RUN = f"{CHAIN}/bias/step1/20190402T000000Z"


def attempt(detector: int, *, transient: bool, run: str = RUN) -> Attempt:
    data_id = data_id_key({"instrument": "DECam", "detector": detector})
    kind = "MemoryError" if transient else "ValueError"
    now = time.time()
    return Attempt("isr", data_id, now, 1.0, 1.0, 10.0, FAILED, kind, "it failed", transient, CHAIN, run, "step1")


def test_transient_failures_of_a_run_are_released(repository):
    from lsst.daf.butler import CollectionType

    ledger = Ledger.of(repository)
    repository.butler(writeable=True).collections.register(RUN, CollectionType.RUN)
    ledger.record([attempt(1, transient=True)] * 3 + [attempt(2, transient=False)])
    ledger.record([attempt(3, transient=True, run=f"{CHAIN}/bias/step1/20190403T000000Z")])
    released, kept = release_failures(repository, RUN)
    assert [f.data_id["detector"] for f in released] == [1] and released[0].attempts == 3
    assert [f.data_id["detector"] for f in kept] == [2]
    left = {f.data_id["detector"] for f in ledger.failed(CHAIN, {"isr"}).values()}
    assert left == {2, 3} and len(ledger.attempts(CHAIN)) == 6
    ledger.record([attempt(1, transient=True)])
    again = {f.data_id["detector"]: f.attempts for f in ledger.failed(CHAIN, {"isr"}).values()}
    assert again == {1: 1, 2: 1, 3: 1}


def test_an_unknown_run_is_told(repository):
    for run in (RUN, "nonsense"):
        with pytest.raises(SurveyError, match="does not exist"):
            release_failures(repository, run)
