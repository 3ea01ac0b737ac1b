"""Records: what a job writes is read back whole, also while it is being written and after a kill."""

from uuid import uuid4

from lsst.daf.butler import QuantumProvenanceData

from proc_decam_dagster.execution.bps.records import BEGUN, ENDED, Record, RecordReader, RecordWriter
from proc_decam_dagster.execution.worker import Outcome


def provenance() -> QuantumProvenanceData:
    return QuantumProvenanceData(
        predicted_inputs=set(), available_inputs=set(), actual_inputs=set(), predicted_outputs=set(),
        actual_outputs={uuid4(), uuid4()}, datastore_records={},
    )  # fmt: skip


def test_records_are_read_as_they_come(tmp_path):
    quantum, reader = uuid4(), RecordReader(tmp_path)
    outcome = Outcome(quantum, True, 1.5, 1.0, 100.0, 50.0, provenance())
    records = [
        Record(BEGUN, quantum, 1.0, "n1"),
        Record(ENDED, quantum, 2.5, "n1", outcome),
        Record(ENDED, uuid4(), 3.0, "n1", None, "Lost", "worker 1 was killed by SIGKILL"),
        Record(ENDED, quantum, 4.0, "n2", Outcome(quantum, False, exception_types=("A", "B"), message="no")),
    ]
    with RecordWriter(tmp_path / "job.jsonl") as writer:
        for record in records:
            writer.write(record)
            assert list(reader.new()) == [record]
    assert list(reader.new()) == []
    assert list(RecordReader(tmp_path).new()) == records
    assert list(RecordReader(tmp_path, "other").new()) == []


def test_a_line_that_a_kill_has_cut_spoils_no_other(tmp_path):
    path, first, second = tmp_path / "job.jsonl", uuid4(), uuid4()
    with RecordWriter(path) as writer:
        writer.write(Record(BEGUN, first, 1.0, "n1"))
    reader = RecordReader(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"kind": "ended", "quantum": "01')
    assert [r.quantum for r in reader.new()] == [first]  # the stump waits for its end
    with RecordWriter(path) as writer:
        writer.write(Record(BEGUN, second, 2.0, "n1"))
    assert [r.quantum for r in reader.new()] == [second]
