"""Assets materialised on the served survey, on an instance of their own: partitions, metadata, checks, failures."""

import os
import shutil

import dagster as dg
import pytest

from proc_decam_dagster.definitions import build_definitions
from proc_decam_dagster.partitions import NIGHTS
from proc_decam_dagster.resources import ArchiveClient, ButlerRepository, Execution, Survey
from proc_decam_dagster.simulation.server import ArchiveServer

NIGHT = "20190401"


@pytest.fixture(scope="module")
def materialise(served, tmp_path_factory):
    """Return a function that materialises assets, with the instance that remembers them."""
    folder = tmp_path_factory.mktemp("dagster")
    variables = served.environment
    definitions = build_definitions(
        survey=Survey(
            data_dir=str(folder / "data"), proposals="2019A-0337", fakes=str(served.folder / "path/to/fakes.fits")
        ),
        repository=ButlerRepository(root=str(folder / "repo")),
        archive=ArchiveClient(
            url=variables["PROC_DECAM_ARCHIVE_URL"],
            refcat_url=variables["PROC_DECAM_REFCAT_URL"],
            mask_url=variables["PROC_DECAM_BPM_URL"],
        ),
        execution=Execution(jobs=2),
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:

        def run(name: str, partition: str | None = None, config: dict | None = None, raise_on_error: bool = True):
            return job.execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(name.split("/"))],
                partition_key=partition,
                run_config={"ops": {name.replace("/", "__"): {"config": config}}} if config else None,
                raise_on_error=raise_on_error,
            )

        run.instance, run.folder = instance, folder
        yield run


def _metadata(result) -> dict:
    (event,) = result.get_asset_materialization_events()
    return {k: v.value for k, v in event.materialization.metadata.items()}


def _checks(result) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


@pytest.fixture(scope="module")
def exposures(materialise):
    return materialise("exposures")


@pytest.fixture(scope="module")
def raws(materialise, exposures):
    materialise("curated_calibs")
    return materialise("raws", NIGHT)


def test_exposures_register_their_nights(materialise, exposures):
    nights = materialise.instance.get_dynamic_partitions(NIGHTS.name)
    assert nights == sorted(nights) and NIGHT in nights
    found = _metadata(exposures)
    assert found["nights"] == len(nights)
    assert found["exposures"] == 13 * len(nights)


def test_raws_are_downloaded_ingested_and_complete(materialise, raws):
    found = _metadata(raws)
    assert (found["files"], found["ingested"], found["visits"]) == (13, 13, 3)
    assert _checks(raws) == {"raws_complete": True, "storage_budget": True, "nothing_stale": True}


def test_materialising_raws_again_reads_nothing_again(materialise, raws):
    found = _metadata(materialise("raws", NIGHT))
    assert (found["ingested"], found["already_there"]) == (0, 13)


def test_a_file_that_the_archive_has_not_is_left_out_and_named(served, tmp_path):
    shutil.copytree(served.folder / "archive", tmp_path / "archive", copy_function=os.link)
    with ArchiveServer(tmp_path / "archive") as server:
        gone = next(row for row in server.holdings.rows() if row["obs_type"] == "zero" and _night(row) == NIGHT)
        server.path_of(gone).unlink()
        definitions = build_definitions(
            survey=Survey(data_dir=str(tmp_path / "data")), execution=Execution(jobs=2),
            repository=ButlerRepository(root=str(tmp_path / "repo")), archive=ArchiveClient(url=server.url),
        )  # fmt: skip
        job = definitions.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.ephemeral() as instance:
            for asset, partition in (("exposures", None), ("curated_calibs", None), ("raws", NIGHT)):
                result = job.execute_in_process(
                    instance=instance, asset_selection=[dg.AssetKey(asset)], partition_key=partition
                )
    found = _metadata(result)
    assert (found["files"], found["visits"]) == (12, 3) and "| not found" in found["not_to_be_had"]
    assert _checks(result)["raws_complete"]


def _night(row: dict) -> str:
    return str(row["caldat"]).replace("-", "")


def test_references(materialise, exposures):
    assert _metadata(materialise("skymap"))["exposures_outside"] == 0
    assert _metadata(materialise("defects", config={"detectors": [1]}))["detectors"] == 1
    assert _metadata(materialise("refcats"))["shards"] > 0
    assert _metadata(materialise("fakes"))["fakes"] > 0


def test_bias_reports_counts_figures_and_a_picture_and_is_certified(materialise, raws):
    result = materialise("bias", NIGHT)
    found = _metadata(result)
    assert found["quanta_succeeded"] == 6 and found["quanta_failed"] == 0
    assert found["certified"] == 1
    assert "data:image/png;base64," in found["focal_plane"]
    assert _checks(result) == {"bias_certified": True, "bias_levels": True, "bias_failed_quanta": True}
    assert found["gigabytes_written"] > 0
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.tags["dagster/data_version"]


def test_a_missing_bias_is_red_and_another_nights_is_used_when_told(materialise, raws):
    materialise("bias", NIGHT)
    other = next(n for n in materialise.instance.get_dynamic_partitions(NIGHTS.name) if n != NIGHT)
    materialise("raws", other)
    result = materialise("flat", other, raise_on_error=False)
    failure = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    said = failure.user_failure_data.description
    assert f"night {other} has no certified bias" in said and f"nearest usable {NIGHT}" in said
    used = materialise("flat", other, config={"calibrations_from": f"bias={NIGHT}"})
    assert f"calibrations from: bias {NIGHT} (" in _metadata(used)["calibrations"]
    assert _checks(used) == {"flat_certified": True, "flat_levels": True, "flat_failed_quanta": True}


def test_failure_is_red_and_says_why(materialise, raws):
    """A flat narrowed to a detector that has no raws cannot be made."""
    result = materialise("flat", NIGHT, config={"detectors": "2"}, raise_on_error=False)
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    assert "detector" in (failure.error.message + str(failure.user_failure_data))
    assert not result.get_asset_materialization_events()


def test_a_part_of_a_night_does_not_make_it_green(materialise, raws):
    materialise("bias", NIGHT)
    part = materialise("flat", NIGHT, config={"detectors": "1"})
    assert part.success and not part.get_asset_materialization_events() and not _checks(part)
    (seen,) = part.get_asset_observation_events()
    observed = seen.asset_observation_data.asset_observation
    assert observed.metadata["incomplete"].value == "only detectors 1 was processed" and observed.partition == NIGHT
    assert _metadata(materialise("flat", NIGHT))["quanta_succeeded"] == 0  # all of it was there
    assert "certified" in _metadata(materialise("flat", NIGHT, config={"detectors": "1"}))
