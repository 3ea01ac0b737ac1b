"""The assets of the survey's table and reference catalogues, materialised against a local archive and TAP service."""

import dagster as dg
import pytest
from archive.tap_server import LocalTap
from archive.test_shard_maker import around, gaia_rows
from astropy.table import Table

from proc_decam_dagster.archive.shard_maker import PS1_COLUMNS
from proc_decam_dagster.assets.references import refcats
from proc_decam_dagster.assets.survey import exposures
from proc_decam_dagster.repository import create_repository
from proc_decam_dagster.resources import ArchiveClient, ButlerRepository, Survey
from proc_decam_dagster.simulation.server import serve_table


@pytest.fixture
def folder(shared_data, tmp_path):
    """A data folder, and a server of two real nights, of which one is held back at first."""
    real = Table.read(shared_data / "archive" / "exposures_object_raw.ecsv", format="ascii.ecsv")
    nights = sorted(set(real["night"].tolist()))[:2]
    real[[n == nights[0] for n in real["night"]]].write(tmp_path / "archive.ecsv")
    yield tmp_path, real[[n in nights for n in real["night"]]]


def materialise(asset, folder, instance, config=None, **resources) -> dict:
    result = dg.materialize(
        [asset], instance=instance, resources={"survey": Survey(data_dir=str(folder / "data")), **resources},
        run_config={"ops": {asset.op.name: {"config": config}}} if config else None,
    )  # fmt: skip
    return {k: v.value for k, v in result.asset_materializations_for_node(asset.op.name)[0].metadata.items()}


def test_the_table_is_updated_and_its_changes_shown(folder):
    tmp_path, both = folder
    with serve_table(tmp_path / "archive.ecsv") as server, dg.DagsterInstance.ephemeral() as instance:
        archive = ArchiveClient(url=server.url)
        first = materialise(exposures, tmp_path, instance, archive=archive)
        assert first["changes"] == "none" and first["nights"] == 1 and "data:image/png" in first["sky"]
        both.write(tmp_path / "archive.ecsv", overwrite=True)
        second = materialise(exposures, tmp_path, instance, archive=archive)
    assert second["changes"] == f"{len(both) - first['exposures']} new" and "new: object" in second["changed"]
    assert second["expected_gb"] > first["expected_gb"] > 1 and "bias" in second["missing"]
    assert {p.name for p in (tmp_path / "data").iterdir() if not p.name.startswith(".")} == {
        "exposures.ecsv", "exposures_nights.ecsv", "exposures_changes.ecsv", "missing_data.ecsv", "exposures_sky.png",
    }  # fmt: skip


def test_reference_catalogues_made_from_a_tap_service(tmp_path):
    (tmp_path / "data").mkdir()
    Table(
        {
            "RA(deg)": [149.4], "DEC(deg)": [1.7], "obs_type": ["object"], "proc_type": ["raw"], "band": ["r"],
            "caldat": ["2019-04-01"], "md5sum": ["0" * 32], "archive_filename": ["a"], "EXPNUM": [1],
            "night": [20190401],
        }
    ).write(tmp_path / "data" / "exposures.ecsv")  # fmt: skip
    create_repository(tmp_path / "repo")
    gaia = gaia_rows(*around(149.4, 1.7, 0.7, 600))  # the outer trixels have no star, and so no shard
    ps1 = Table({name: [1.0] for name in (*PS1_COLUMNS, "nDetections")})  # one object, far away
    with LocalTap(gaia_dr3__gaia_source=gaia, dbo__MeanObjectView=ps1) as tap, dg.DagsterInstance.ephemeral() as here:
        shown = materialise(
            refcats, tmp_path, here, {"source": "tap", "tap_urls": {"gaia_dr3": tap.url, "ps1": tap.url}},
            archive=ArchiveClient(), repository=ButlerRepository(root=str(tmp_path / "repo")),
        )  # fmt: skip
    assert shown["shards"] > 5 and "gaia_dr3_20230707" in shown["catalogues"]
    assert "| ps1_pv3_3pi_20170110 | 0 |" in shown["catalogues"]
    assert "data:image/png" in shown["coverage"] and (tmp_path / "data" / "refcats_coverage.png").is_file()
