"""Raw files: ingested once, bad ones named, tagged by the exposure table."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.engine import EmbeddedEngine
from proc_decam_dagster.repository import IngestReport, ingest_raws, raws, tag_raws
from proc_decam_dagster.survey.exposures import file_name

from .conftest import DETECTORS, make_exposures, write_raw

ALL = {"collections": "DECam/raw/all", "find_first": False}


@pytest.fixture
def folder(tmp_path):
    """Raw files of its own for a test that spoils some."""
    return tmp_path / "images"


def path_of(folder, row):
    return folder / file_name(row)


def test_every_detector_of_every_file_is_there(repo, exposures, image_dir):
    report = ingest_raws(repo, exposures, image_dir)
    assert (report.ingested, report.existing, report.failed) == (6, 0, [])
    refs = repo.butler().query_datasets("raw", **ALL)
    assert {(r.dataId["exposure"], r.dataId["detector"]) for r in refs} == {
        (int(e), d) for e in exposures["EXPNUM"] for d in DETECTORS
    }
    uri = repo.butler().getURI(refs[0])
    assert uri.ospath == str(path_of(image_dir, exposures[exposures["EXPNUM"] == refs[0].dataId["exposure"]][0]))


def test_exposure_records_say_what_the_headers_say(night):
    records = {r.id: r for r in night.butler().query_dimension_records("exposure")}
    science = records[845005]
    assert science.observation_type == "science"
    assert science.physical_filter == "VR DECam c0007 6300.0 2600.0"
    assert science.exposure_time == 120
    assert (science.tracking_ra, science.tracking_dec) == pytest.approx((149.4, 1.7), abs=1e-4)
    assert records[845001].observation_type == "zero"


def test_second_ingest_opens_no_file(repo, exposures, image_dir, monkeypatch):
    ingest_raws(repo, exposures, image_dir)
    monkeypatch.setattr(raws, "_read_one", lambda *a: pytest.fail("a known file was opened"))
    report = ingest_raws(repo, exposures, image_dir)
    assert (report.ingested, report.existing, report.ok) == (0, 6, True)


def test_only_new_files_are_added(repo, exposures, image_dir):
    ingest_raws(repo, exposures[:2], image_dir)
    report = ingest_raws(repo, exposures, image_dir)
    assert (report.ingested, report.existing) == (4, 2)
    assert sorted(report.exposures) == sorted(exposures["EXPNUM"][2:])


def test_instcals_of_a_table_are_left_out(repo, exposures, image_dir):
    exposures["proc_type"] = np.array(["raw"] * 5 + ["instcal"])
    assert ingest_raws(repo, exposures, image_dir).ingested == 5


def test_bad_files_are_named_and_the_others_go_on(repo, folder):
    table = make_exposures(folder, "zzzzzs")
    paths = [path_of(folder, row) for row in table]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    paths[1].unlink()
    paths[2].write_bytes(b"no FITS file at all")
    write_raw(paths[3], 999999, "zero", 1)
    report = ingest_raws(repo, table, folder)
    assert sorted(report.exposures) == [845005, 845006]
    reasons = {os.path.basename(path): reason for path, reason in report.failed}
    assert len(reasons) == 4
    for path, words in zip(paths, ("truncated", "does not exist", "not a FITS file", "header says EXPNUM 999999")):
        assert words in reasons[path.name]
    with pytest.raises(SurveyError, match="4 raw files were not ingested"):
        report.raise_on_failure()


def test_a_failed_file_is_ingested_once_it_is_mended(repo, folder):
    table = make_exposures(folder, "zz")
    whole = path_of(folder, table[0]).read_bytes()
    path_of(folder, table[0]).write_bytes(whole[:4000])
    assert ingest_raws(repo, table, folder).ingested == 1
    path_of(folder, table[0]).write_bytes(whole)
    report = ingest_raws(repo, table, folder)
    assert (report.ingested, report.existing, report.failed) == (1, 1, [])


def test_known_md5_under_another_exposure_number(repo, exposures, image_dir):
    ingest_raws(repo, exposures, image_dir)
    exposures["EXPNUM"][0] = 7
    report = ingest_raws(repo, exposures, image_dir)
    assert len(report.failed) == 1
    assert "ingested before as exposure 845001, but the table says 7" in report.failed[0][1]


def test_file_that_the_download_found_bad(repo, folder):
    table = make_exposures(folder, "zz")
    found = Table(
        {"path": [str(path_of(folder, r)) for r in table], "md5sum": table["md5sum"], "valid_on_disk": [True, False]}
    )
    found.write(folder / "downloaded_exposures.ecsv", format="ascii.ecsv")
    report = ingest_raws(repo, table, folder)
    assert report.ingested == 1
    assert "md5 on disk is wrong" in report.failed[0][1]


def test_files_elsewhere_are_found_through_the_downloads_table(repo, folder, tmp_path):
    table = make_exposures(folder, "zz")
    (tmp_path / "other").mkdir()
    moved = [shutil.move(path_of(folder, row), tmp_path / "other" / f"{n}.fits") for n, row in enumerate(table)]
    Table({"path": [str(m) for m in moved], "md5sum": table["md5sum"]}).write(
        folder / "downloaded_exposures.ecsv", format="ascii.ecsv"
    )
    assert ingest_raws(repo, table, folder).ingested == 2


@pytest.mark.parametrize("transfer", ["copy", "symlink"])
def test_files_taken_into_the_repository(repo, exposures, image_dir, transfer):
    assert ingest_raws(repo, exposures[:1], image_dir, transfer=transfer).ok
    path = repo.butler().getURI(repo.butler().query_datasets("raw", **ALL)[0]).ospath
    assert path.startswith(str(repo.root))
    assert os.path.islink(path) == (transfer == "symlink")


def test_unknown_transfer(repo, exposures, image_dir):
    with pytest.raises(SurveyError, match="direct, copy, symlink"):
        ingest_raws(repo, exposures, image_dir, transfer="teleport")


def test_reingest_replaces_and_leaves_the_files(night, exposures, image_dir):
    before = {r.id for r in night.butler().query_datasets("raw", **ALL)}
    report = ingest_raws(night, exposures, image_dir, reingest=True)
    assert (report.ingested, report.failed) == (6, [])
    assert {r.id for r in night.butler().query_datasets("raw", **ALL)} == before
    assert all(path_of(image_dir, row).is_file() for row in exposures)
    assert tag_raws(night, "20190401", "bias") == 4


def test_what_cannot_be_replaced_stays(night, exposures, image_dir, monkeypatch):
    engine, real = night.engine, night.engine.ingest_raws

    def picky(butler, files, **kwargs):
        real(butler, files, **kwargs)
        if any(f.exposure == 845002 for f in files):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(engine, "ingest_raws", picky)
    before = {r.id for r in night.butler().query_datasets("raw", **ALL)}
    report = ingest_raws(night, exposures, image_dir, reingest=True)
    assert report.ingested == 5 and [Path(p).name for p, _ in report.failed] == [path_of(image_dir, exposures[1]).name]
    assert {r.id for r in night.butler().query_datasets("raw", **ALL)} == before
    kept = night.butler().query_datasets("raw", "20190401/bias/raw")  # its tag too
    assert {r.dataId["exposure"] for r in kept} == {845002} and night.butler().get(kept[0])


def test_a_copy_stays_until_its_replacement_is_there(repo, folder, monkeypatch):
    table = make_exposures(folder, "zz")
    ingest_raws(repo, table, folder, transfer="copy")
    engine, real = repo.engine, repo.engine.ingest_raws
    lost = path_of(folder, table[1])

    def vanish(butler, files, **kwargs):
        lost.unlink(missing_ok=True)  # after its header was read
        real(butler, files, **kwargs)

    def copies():
        return {
            r.dataId["exposure"]: Path(repo.butler().getURI(r).ospath) for r in raws.raw_refs(repo, table["EXPNUM"])
        }

    before = copies()
    monkeypatch.setattr(engine, "ingest_raws", vanish)
    report = ingest_raws(repo, table, folder, transfer="copy", reingest=True)
    assert report.exposures == [845001] and [path for path, _ in report.failed] == [str(lost)]
    assert copies() == before and not list(repo.root.rglob("*.replaced"))
    for ref in raws.raw_refs(repo, table["EXPNUM"]):
        assert repo.butler().get(ref).data.mean() == ref.dataId["detector"]
    ingest_raws(repo, table[:1], folder, transfer="direct", reingest=True)
    assert copies()[845001] == path_of(folder, table[0]) and not before[845001].exists()


def test_headers_are_read_in_other_processes_when_many(repo, exposures, image_dir, monkeypatch):
    monkeypatch.setattr(raws, "POOL_FROM", 2)
    seen = []
    report = ingest_raws(repo, exposures, image_dir, jobs=2, progress=lambda done, total: seen.append((done, total)))
    assert report.ingested == 6
    assert seen[-1] == (6, 6)


class Deadly(EmbeddedEngine):
    """An engine of which the process that reads one file's header is killed."""

    def read_raw(self, path):
        if "845002" in path:
            os._exit(9)
        return super().read_raw(path)


def test_a_killed_process_costs_the_file_it_was_reading(repo, exposures, image_dir, monkeypatch):
    monkeypatch.setattr(raws, "POOL_FROM", 2)
    repo._engine = Deadly()
    report = ingest_raws(repo, exposures[:3], image_dir, jobs=2)
    assert sorted(report.exposures) == [845001, 845003]
    assert [Path(path) for path, reason in report.failed if "was killed" in reason] == [
        path_of(image_dir, exposures[1])
    ]


def test_one_bad_record_fails_alone(repo, exposures, image_dir, monkeypatch):
    engine = repo.engine
    real = engine.ingest_raws

    def picky(butler, files, **kwargs):
        files = list(files)
        if any(f.exposure == 845003 for f in files):
            raise RuntimeError("conflict")
        real(butler, files, **kwargs)

    monkeypatch.setattr(engine, "ingest_raws", picky)
    report = ingest_raws(repo, exposures, image_dir)
    assert report.ingested == 5
    assert [reason for _, reason in report.failed] == ["RuntimeError: conflict"]


def test_full_disk_is_one_error(repo, exposures, image_dir, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("transfer failed") from OSError(28, "No space left on device")

    monkeypatch.setattr(repo.engine, "ingest_raws", full)
    with pytest.raises(SurveyError, match="no space left"):
        ingest_raws(repo, exposures, image_dir, transfer="copy")
    assert not list(repo.butler().registry.queryDatasetTypes("raw"))


def test_report_without_failures_raises_nothing():
    IngestReport().raise_on_failure()


def test_tags_follow_the_exposure_table(night):
    assert tag_raws(night, "20190401", "bias") == 4  # the second time too
    tagged = night.butler().query_datasets("raw", "20190401/bias/raw", find_first=False)
    assert {r.dataId["exposure"] for r in tagged} == {845001, 845002}
    assert tag_raws(night, "20190401", "science") == 4


def test_a_morning_frame_is_of_the_night_that_the_table_says(night):
    """The Butler's observing day has no say: a frame moves when its caldat does."""
    table = night.exposures()
    table["night"][table["EXPNUM"] == 845002] = 20190402
    night.remember_exposures(table)
    assert tag_raws(night, "20190401", "bias") == 2
    assert tag_raws(night, "20190402", "bias") == 2
    assert {r.dataId["exposure"] for r in night.butler().query_datasets("raw", "20190402/bias/raw")} == {845002}


def test_unknown_night_and_night_without_raws(night, exposures):
    with pytest.raises(SurveyError, match="has no zero frames on night 20180101"):
        tag_raws(night, "20180101", "bias")
    table = exposures[:1]
    table["night"], table["EXPNUM"], table["md5sum"] = 20190405, 1, "other"
    night.remember_exposures(table)
    with pytest.raises(SurveyError, match="none of the 1 zero frames of night 20190405.*proc-decam ingest"):
        tag_raws(night, "20190405", "bias")


def test_frames_not_ingested_are_logged(night, exposures, caplog):
    table = exposures[:1]
    table["EXPNUM"], table["md5sum"] = 77, "other"
    night.remember_exposures(table)
    assert tag_raws(night, "20190401", "bias") == 4
    assert "[77]" in caplog.text


def test_proc_type_without_raws(night):
    with pytest.raises(SurveyError, match="coadd has no raws"):
        tag_raws(night, "20190401", "coadd")
