"""A new repository: everything in it, nothing left of a failed one, and those begun by plain butler completed."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from lsst.daf.butler import Butler

from proc_decam_dagster.camera.crosstalk import sources
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.filters import FILTERS
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import create, create_repository, ensure_repository, open_repository
from proc_decam_dagster.repository.configuration import complete_configuration
from proc_decam_dagster.repository.create import RepositoryExists
from proc_decam_dagster.repository.engines import engine


def test_instrument_with_its_detectors_and_filters(repo):
    butler = repo.butler()
    assert {r.id: r.full_name for r in butler.query_dimension_records("detector")} == {
        d.id: d.name for d in DETECTORS.values()
    }
    assert {r.name: r.band for r in butler.query_dimension_records("physical_filter")} == {
        f.physical_filter: f.band for f in FILTERS.values()
    }


def test_crosstalk_is_certified_for_all_detectors_and_times(repo):
    refs = repo.butler().query_datasets("crosstalk", "DECam/calib", find_first=False)
    assert {ref.dataId["detector"] for ref in refs} == set(DETECTORS)
    content = repo.butler().get(next(ref for ref in refs if ref.dataId["detector"] == 25))
    assert content["detector"] == 25
    assert [tuple(row) for row in content["sources"]] == sources(25)


def test_curated_calibrations_are_written_once(repo):
    assert repo.engine.write_curated_calibrations(repo.butler(writeable=True)) == 0


def test_rings_skymap_is_the_surveys_until_another_is_added(repo):
    name = repo.settings.skymap
    assert not repo.settings.skymap_fits
    assert [r.name for r in repo.butler().query_dimension_records("skymap")] == [name]
    assert repo.butler().get("skyMap", skymap=name, collections="skymaps").name == name


def test_whole_sky_rows_are_not_inserted_before_there_are_visits(repo):
    where = f"skymap='{repo.settings.skymap}'"
    assert not repo.butler().query_dimension_records("tract", where=where, explain=False)


def test_with_exposures_the_skymap_fits_them(tmp_path, exposures):
    made = create_repository(tmp_path / "repo", exposures=exposures)
    assert (made.settings.skymap, made.settings.skymap_fits) == ("discrete", True)
    assert made.butler().query_dimension_records("patch", where="skymap='discrete'")
    made.close()


def test_an_existing_repository_is_not_touched(repo):
    before = (repo.root / "butler.yaml").read_text()
    with pytest.raises(SurveyError, match="is a Butler repository already"):
        create_repository(repo.root)
    assert (repo.root / "butler.yaml").read_text() == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "repo").write_text("")
    with pytest.raises(SurveyError, match="is a file"):
        create_repository(tmp_path / "repo")


def test_nothing_is_left_of_a_failed_one(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(create, "register_skymap", fail)
    with pytest.raises(OSError, match="No space left"):
        create_repository(tmp_path / "repo")
    assert not os.listdir(tmp_path)


def test_two_at_once_make_one_repository(tmp_path, monkeypatch):
    begun, go_on, real = threading.Event(), threading.Event(), create.register_skymap

    def slow(*args, **kwargs):
        begun.set()
        assert go_on.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(create, "register_skymap", slow)
    with ThreadPoolExecutor() as threads:
        makers = [threads.submit(create_repository, tmp_path / "repo") for _ in range(2)]
        assert begun.wait(60)
        ensured = threads.submit(ensure_repository, tmp_path / "repo")
        with pytest.raises(TimeoutError):
            ensured.result(0.5)  # what is half-made is not taken for a repository
        go_on.set()
        made = [m for m in makers if m.exception() is None]
        (late,) = [m for m in makers if m.exception()]
        assert len(made) == 1 and isinstance(late.exception(), RepositoryExists)
        assert ensured.result() is None
    assert open_repository(tmp_path / "repo").settings.skymap


def test_a_failure_leaves_the_users_own_files(tmp_path, monkeypatch):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "notes.txt").write_text("mine")
    monkeypatch.setattr(create, "register_skymap", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create_repository(tmp_path / "repo")
    assert (tmp_path / "repo" / "notes.txt").read_text() == "mine"


def test_seed_configuration_is_applied(tmp_path):
    (tmp_path / "seed.yaml").write_text("storageClasses:\n  Mine:\n    pytype: dict\n")
    made = create_repository(tmp_path / "repo", seed=tmp_path / "seed.yaml")
    assert made.butler().storageClasses.getStorageClass("Mine").pytype is dict
    assert made.butler().storageClasses.getStorageClass("DecamImage")
    made.close()


def test_registry_can_lie_elsewhere(tmp_path):
    made = create_repository(tmp_path / "repo", registry_db=f"sqlite:///{tmp_path / 'elsewhere.sqlite3'}")
    made.close()
    assert (tmp_path / "elsewhere.sqlite3").is_file()
    assert open_repository(tmp_path / "repo").engine.name == "embedded"


def test_science_pipelines_without_a_stack_makes_nothing(tmp_path):
    with pytest.raises(SurveyError, match="LSST Science Pipelines, which are not set up"):
        create_repository(tmp_path / "repo", engine="science-pipelines")
    assert not (tmp_path / "repo").exists()


def test_plain_butler_create_is_completed_once(tmp_path):
    Butler.makeRepo(str(tmp_path / "repo"))
    path = tmp_path / "repo" / "butler.yaml"
    before = yaml.safe_load(path.read_text())
    assert complete_configuration(tmp_path / "repo", engine("embedded"))
    after = yaml.safe_load(path.read_text())
    assert "DecamImage" in after["storageClasses"]
    assert {k: after[k] for k in before if k not in ("storageClasses", "datastore")} == {
        k: before[k] for k in before if k not in ("storageClasses", "datastore")
    }
    assert not complete_configuration(tmp_path / "repo", engine("embedded"))


def test_completion_leaves_what_a_team_has_set(tmp_path):
    Butler.makeRepo(str(tmp_path / "repo"))
    path = tmp_path / "repo" / "butler.yaml"
    config = yaml.safe_load(path.read_text())
    config["storageClasses"] = {"DecamRefcat": {"pytype": "dict"}}
    path.write_text(yaml.safe_dump(config))
    complete_configuration(tmp_path / "repo", engine("embedded"))
    assert yaml.safe_load(path.read_text())["storageClasses"]["DecamRefcat"] == {"pytype": "dict"}
