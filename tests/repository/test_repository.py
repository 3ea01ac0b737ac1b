"""A repository opened: its Butler, engine, settings, exposure table."""

import pickle
import threading

import numpy as np
import pytest
from lsst.daf.butler import Butler, CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import Repository, open_repository


def test_open_says_how_to_make_one(tmp_path):
    with pytest.raises(SurveyError, match="is no Butler repository.*proc-decam create"):
        open_repository(tmp_path / "none")
    with pytest.raises(SurveyError, match="is no Butler repository"):
        open_repository(tmp_path)


def test_open_without_an_instrument_says_how_to_register_it(tmp_path):
    Butler.makeRepo(str(tmp_path / "bare"))
    with pytest.raises(SurveyError, match="register-instrument"):
        open_repository(tmp_path / "bare")


def test_repository_of_another_engine_is_refused(tmp_path):
    Butler.makeRepo(str(tmp_path / "other"))
    butler = Butler.from_config(str(tmp_path / "other"), writeable=True)
    record = {
        "name": "DECam", "detector_max": 100, "visit_max": 100, "exposure_max": 100, "visit_system": 0,
        "class_name": "lsst.obs.other.Camera",
    }  # fmt: skip
    butler.registry.syncDimensionData("instrument", record)
    butler.close()
    with pytest.raises(SurveyError, match="lsst.obs.other.Camera, made by an engine that is unknown here"):
        open_repository(tmp_path / "other")


def test_open_from_a_relative_path(repo, monkeypatch):
    monkeypatch.chdir(repo.root.parent)
    opened = open_repository("repo")
    monkeypatch.chdir("/")
    assert opened.root == repo.root
    assert opened.engine.name == "embedded"
    assert opened.butler().collections.query("DECam/calib")


def test_butler_is_cached_and_sees_what_others_wrote(repo):
    butler = repo.butler()
    assert repo.butler() is butler
    Repository(repo.root).butler(writeable=True).collections.register("new", CollectionType.RUN)
    assert list(repo.butler().collections.query("new")) == ["new"]


def test_every_thread_has_a_butler_of_its_own(repo):
    found = []
    thread = threading.Thread(target=lambda: found.append(repo.butler()))
    thread.start()
    thread.join()
    assert found[0] is not repo.butler()


def test_pickled_to_another_process(repo):
    repo.butler()
    assert pickle.loads(pickle.dumps(repo)).root == repo.root


def test_settings_are_changed_by_name(repo):
    before = repo.settings
    repo.update_settings(survey="deep")
    assert repo.settings.survey == "deep"
    assert repo.settings.skymap == before.skymap
    assert Repository(repo.root).settings.survey == "deep"


def test_exposures_are_remembered_and_merged(repo, exposures):
    assert repo.exposures() is None
    with pytest.raises(SurveyError, match="knows no exposures"):
        repo.known_exposures()
    repo.remember_exposures(exposures[:3])
    repo.remember_exposures(exposures[2:])
    assert sorted(repo.exposures()["EXPNUM"]) == sorted(exposures["EXPNUM"])


def test_a_table_that_says_nothing_new_is_not_written(repo, exposures):
    repo.remember_exposures(exposures)
    path = repo.state_dir / "exposures.ecsv"
    before = path.stat().st_mtime_ns
    assert len(repo.remember_exposures(exposures[2:4])) == len(exposures)
    assert path.stat().st_mtime_ns == before
    exposures["night"][0] += 1
    exposures["airmass"] = np.ma.array([1.2, *[0.0] * 5], mask=[False, *[True] * 5])
    repo.remember_exposures(exposures[:1])
    known = repo.exposures()
    assert known["night"][0] == exposures["night"][0] and known["airmass"].tolist() == [1.2, *[None] * 5]
    before = path.stat().st_mtime_ns
    repo.remember_exposures(exposures)
    assert path.stat().st_mtime_ns == before


def test_returned_exposures_are_a_copy(repo, exposures):
    repo.remember_exposures(exposures)
    repo.exposures()["band"] = "u"
    assert "VR" in set(repo.exposures()["band"])


def test_lock_names_the_chain(repo):
    with repo.lock("20190401/bias"), repo.lock("20190401/flat"):
        assert (repo.state_dir / "locks" / "20190401__bias.lock").is_file()
