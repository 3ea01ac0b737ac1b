"""Dagster's storage in the same cluster, with the configuration that the command writes and with the example's."""

import stat
from pathlib import Path

import dagster as dg
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "postgres"


def test_an_instance_keeps_its_partitions_there(started, tmp_path, monkeypatch):
    told = started.db("create", "--dagster").output
    cluster = started.cluster
    variable, _, password = cluster.dagster_secret.read_text().strip().partition("=")
    assert stat.S_IMODE(cluster.dagster_secret.stat().st_mode) == 0o600
    block = yaml.safe_load(cluster.dagster_file.read_text())
    assert cluster.dagster_file.read_text() in told and password not in told and password != started.password()
    example = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    example["storage"]["postgres"]["postgres_db"]["port"] = started.port
    assert example["storage"] == block["storage"]

    monkeypatch.setenv(variable, password)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(example))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("decam_night", ["20190401", "20190402"])
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_dynamic_partitions("decam_night") == ["20190401", "20190402"]
        assert "Postgres" in type(instance.run_storage).__name__
    # Neither role may enter the other's database.
    assert started.psql("SELECT 1", user="proc_decam_dagster", password=password).returncode == 2
    assert started.psql("SELECT 1", dbname="proc_decam_dagster", password=started.password()).returncode == 2
    assert "read back whole" in started.db("backup", tmp_path / "dagster.dump", "--dagster").output
