"""The survey's Dagster instance: it asks its storage once for what a page wants many times, and sees what changes."""

import dagster as dg
import pytest
import yaml
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from proc_decam_dagster import instance as module
from proc_decam_dagster.instance import SurveyInstance


@pytest.fixture
def home(tmp_path):
    """A folder with a ``dagster.yaml`` that names the class."""
    named = {"instance_class": {"module": module.__name__, "class": SurveyInstance.__name__}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(named))
    return str(tmp_path)


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names of the lists that the storage was asked for."""
    names, ask = [], SqliteEventLogStorage.get_dynamic_partitions
    monkeypatch.setattr(SqliteEventLogStorage, "get_dynamic_partitions", lambda s, n: names.append(n) or ask(s, n))
    return names


def test_many_questions_are_one_query(home, asked):
    with dg.DagsterInstance.from_config(home) as instance:
        instance.add_dynamic_partitions("night", ["20190401", "20190402"])
        assert {tuple(instance.get_dynamic_partitions("night")) for _ in range(100)} == {("20190401", "20190402")}
    assert asked == ["night"]


def test_what_it_adds_and_deletes_itself_is_seen_at_once(home, monkeypatch):
    monkeypatch.setattr(module, "MEMORY_SECONDS", 1e9)
    with dg.DagsterInstance.from_config(home) as instance:
        assert instance.get_dynamic_partitions("night") == []
        instance.add_dynamic_partitions("night", ["20190401", "20190402"])
        assert instance.get_dynamic_partitions("night") == ["20190401", "20190402"]
        instance.delete_dynamic_partition("night", "20190401")
        assert instance.get_dynamic_partitions("night") == ["20190402"]


def test_what_another_process_does_is_seen_when_the_memory_is_over(home, monkeypatch):
    with dg.DagsterInstance.from_config(home) as instance, dg.DagsterInstance.from_config(home) as other:
        assert instance.get_dynamic_partitions("night") == []
        other.add_dynamic_partitions("night", ["20190401"])
        assert instance.has_dynamic_partition("night", "20190401")  # of one partition, always
        monkeypatch.setattr(module, "MEMORY_SECONDS", 0.0)
        assert instance.get_dynamic_partitions("night") == ["20190401"]


def test_the_list_that_is_handed_out_is_the_callers(home):
    with dg.DagsterInstance.from_config(home) as instance:
        instance.add_dynamic_partitions("night", ["20190401"])
        instance.get_dynamic_partitions("night").clear()
        assert instance.get_dynamic_partitions("night") == ["20190401"]
