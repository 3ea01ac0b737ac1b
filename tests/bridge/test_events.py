"""What is processed from a terminal shows in Dagster: complete chains as materialisations, others as observations."""

import dagster as dg
import pytest

from proc_decam_dagster.bridge.events import tell_dagster
from proc_decam_dagster.execution import PipelineReport, QuantumFailure, StepReport, TaskCounts
from proc_decam_dagster.partitions import COADD_SUBSETS, NIGHTS
from proc_decam_dagster.repository import create_repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    made = create_repository(tmp_path_factory.mktemp("survey") / "repo")
    yield made
    made.close()


@pytest.fixture
def instance(tmp_path, repository, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("PROC_DECAM_REPO", str(repository.root))
    with dg.DagsterInstance.get() as made:
        yield made


def report(chain: str, failed: int = 0) -> PipelineReport:
    failures = [QuantumFailure("isr", {"detector": 1}, "ValueError", "no", False, 1)] * failed
    step = StepReport(
        "step1", chain, tasks={"isr": TaskCounts(succeeded=2, failed=failed)}, failures=failures, quanta=2
    )
    return PipelineReport(chain, [step])


def test_a_complete_chain_is_a_materialisation(instance, repository):
    assert tell_dagster(repository, report("20190401/drp"))
    assert instance.get_dynamic_partitions(NIGHTS.name) == ["20190401"]
    (record,) = instance.fetch_materializations(dg.AssetKey("calexps"), limit=10).records
    assert record.partition_key == "20190401"
    assert record.asset_materialization.metadata["quanta_succeeded"].value == 2
    assert "a terminal, by " in record.asset_materialization.metadata["made_from"].value


def test_a_difference_is_a_cell_of_its_template_type(instance, repository):
    assert tell_dagster(repository, report("20190401/2019/min/diff_drp"))
    assert instance.get_dynamic_partitions(COADD_SUBSETS.name) == ["2019"]
    assert instance.get_materialized_partitions(dg.AssetKey(["min", "diffs"])) == {"2019|20190401"}


def test_what_failed_is_an_observation(instance, repository):
    assert tell_dagster(repository, report("20190402/bias", failed=1))
    assert not instance.get_materialized_partitions(dg.AssetKey("bias"))
    (record,) = instance.fetch_observations(dg.AssetKey("bias"), limit=10).records
    assert "1 failed" in record.asset_observation.metadata["incomplete"].value


def test_a_part_of_a_chain_is_an_observation(instance, repository):
    assert tell_dagster(repository, report("20190403/bias"), "--where detector=1")
    assert "20190403" not in instance.get_materialized_partitions(dg.AssetKey("bias"))
    (record,) = instance.fetch_observations(dg.AssetKey("bias"), limit=1).records
    assert record.asset_observation.metadata["incomplete"].value == "--where detector=1"


def test_a_template_tells_its_inputs_too(instance, repository):
    repository.update_settings(coadd_inputs={"2019/mean/coadd/inputs": {"nights": ["20190401", "20190402"]}})
    assert tell_dagster(repository, report("2019/mean/coadd"))
    assert instance.get_materialized_partitions(dg.AssetKey(["mean", "coadds"])) == {"2019"}
    cells = instance.get_materialized_partitions(dg.AssetKey(["mean", "coadd_inputs"]))
    assert cells == {"2019|20190401", "2019|20190402"}


def test_another_survey_s_instance_is_told_nothing(instance, repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PROC_DECAM_REPO", str(tmp_path / "other"))
    assert not tell_dagster(repository, report("20190401/drp"))
    monkeypatch.delenv("DAGSTER_HOME")
    assert not tell_dagster(repository, report("20190401/drp"))


def test_a_wrong_setting_is_warned_of(instance, repository, monkeypatch, caplog):
    monkeypatch.setenv("PROC_DECAM_ENGINE", "nonsense")
    assert not tell_dagster(repository, report("20190401/drp"))
    assert "Dagster could not be told" in caplog.text


def test_an_instance_that_is_broken_is_warned_of(instance, repository, monkeypatch, tmp_path, caplog):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dagster.yaml").write_text("storage: {mongodb: {}}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "broken"))
    assert not tell_dagster(repository, report("20190401/drp"))
    assert "Dagster could not be told" in caplog.text
