"""The ledger."""

import threading

from proc_decam_dagster.execution.attempts import Attempt, data_id_key
from proc_decam_dagster.execution.ledger import Ledger


def attempt(task="isr", data_id=None, outcome="failed", **more):
    key = data_id_key(data_id or {"detector": 1, "exposure": 7})
    values = {"chain": "n/bias", "run": "n/bias/r", "step": "step1"}
    values |= {"exception": "MemoryError", "message": "m", "transient": True}
    if outcome != "failed":
        values |= {"exception": "", "message": "", "transient": False}
    return Attempt(task, key, 1.0, 2.0, 3.0, 4.0, outcome, **(values | more))


def test_data_id_does_not_depend_on_the_order():
    assert data_id_key({"b": 1, "a": "x"}) == data_id_key({"a": "x", "b": 1}) == '{"a": "x", "b": 1}'


def test_round_trip(tmp_path):
    ledger = Ledger(tmp_path / "state" / "ledger.sqlite", tmp_path / "attempts")
    assert ledger.attempts("n/bias") == [] and not ledger.file.exists()
    ledger.record([])
    ledger.record([attempt(), attempt(task="other", outcome="succeeded")])
    read = ledger.attempts("n/bias")
    assert [a.task for a in read] == ["isr", "other"] and read[0].host and read[0].transient is True
    assert read[0].peak_memory_mb == 4 and read[0].backend == "local"
    assert ledger.attempts("other/chain") == []


def test_failed_counts_failures_since_the_last_success(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite", tmp_path / "attempts")
    ledger.record([attempt(), attempt(outcome="succeeded"), attempt(), attempt(outcome="interrupted"), attempt()])
    (failed,) = ledger.failed("n/bias", ["isr"]).values()
    assert failed.attempts == 2 and failed.data_id == {"detector": 1, "exposure": 7} and failed.transient
    assert failed.redone  # its chain still holds what it made before
    assert failed.name == ("isr", data_id_key(failed.data_id))
    assert ledger.failed("n/bias", ["other"]) == {}
    ledger.record([attempt(outcome="succeeded")])
    assert ledger.failed("n/bias", ["isr"]) == {}


def test_threads_share_the_file(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite", tmp_path / "attempts")
    threads = [threading.Thread(target=lambda: [ledger.record([attempt()]) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.attempts("n/bias")) == 40
