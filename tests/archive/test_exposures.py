"""The exposure table brought up to date: nothing dropped, nothing rewritten in silence, what is missing named."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.archive import exposures, update_exposures
from proc_decam_dagster.archive.client import Archive
from proc_decam_dagster.archive.errors import QueryRefused, Unavailable
from proc_decam_dagster.simulation.server import serve_table
from proc_decam_dagster.survey.exposures import read_exposures

ZERO = {"obs_type": "zero", "FILTER": "solid plate 0.0 0.0", "PROPID": "2019A-0001", "OBJECT": None}
FLAT = {"obs_type": "dome flat", "PROPID": "2019A-0001"}
SURVEY = "2019A-0337"


@pytest.fixture
def observed(local):
    """Two nights of two exposures, calibrations on the first only, and on nights nearby that are not the survey's."""
    for i, night in enumerate(("2019-04-01", "2019-04-01", "2019-04-20", "2019-04-20")):
        local.add(f"o{i}.fits.fz", b"o%d" % i, caldat=night, dateobs_min=f"{night}T05:0{i}:18.383", filesize=4 * 10**8)
    local.add("z.fits.fz", b"z", caldat="2019-04-01", filesize=2 * 10**8, **ZERO)
    local.add("f.fits.fz", b"f", caldat="2019-04-01", filesize=3 * 10**8, **FLAT)
    local.add("z2.fits.fz", b"z2", caldat="2019-04-18", **ZERO)
    local.add("z3.fits.fz", b"z3", caldat="2019-04-22", **ZERO)
    local.add("r.fits.fz", b"r", caldat="2019-04-19", **(FLAT | {"FILTER": "r DECam SDSS c0002 6415.0 1480.0"}))
    return local


def test_tables_written_and_the_nearest_night_named(observed, client, tmp_path):
    update = update_exposures(client, tmp_path, SURVEY)
    assert len(update.table) == 6 and not update.changes and update.written
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == [
        "exposures.ecsv", "exposures_nights.ecsv", "missing_data.ecsv",
    ]  # fmt: skip
    missing = Table.read(tmp_path / "missing_data.ecsv")
    assert missing.colnames[:3] == ["observation_type", "caldat", "band"]  # what the reference reads
    assert [tuple(r) for r in missing] == [
        ("bias", "2019-04-20", None, "20190418", -2), ("flat", "2019-04-20", "VR", "20190401", -19),
    ]  # fmt: skip
    nights = Table.read(tmp_path / "exposures_nights.ecsv")
    assert nights["science_VR"].tolist() == [2, 2] and nights["zeros"].tolist() == [1, 0]
    assert nights["expected_gb"].tolist() == [1.3, 0.8] and nights["science_seconds"].tolist() == [240.0, 240.0]
    assert nights["lacks"].filled("").tolist() == ["", "bias, flat VR"]


def test_nothing_within_reach_is_said(observed, client, tmp_path):
    observed.rows = [r for r in observed.rows if r["obs_type"] == "object"]
    missing = update_exposures(client, tmp_path, SURVEY).missing
    assert set(missing["nearest_night"]) == {""} and missing["days_away"].mask.all()


def test_again_without_a_change_nothing_is_written(observed, client, tmp_path):
    update_exposures(client, tmp_path, SURVEY)
    before = (tmp_path / "exposures.ecsv").stat()
    again = update_exposures(client, tmp_path, SURVEY)
    assert not again.changes and not again.written and again.summary == ""
    assert (tmp_path / "exposures.ecsv").stat().st_mtime_ns == before.st_mtime_ns


def test_what_another_search_found_meanwhile_stays(observed, client, tmp_path, monkeypatch):
    observed.add("x.fits.fz", b"x", caldat="2019-05-01", dateobs_min="2019-05-01T05:00:00.000", PROPID="2018B-0001")
    search = exposures.query_exposures

    def slow(*args, **kwargs):
        found = search(*args, **kwargs)
        monkeypatch.undo()
        update_exposures(client, tmp_path, "2018B-0001")
        return found

    monkeypatch.setattr(exposures, "query_exposures", slow)
    table = update_exposures(client, tmp_path, SURVEY).table
    assert {"2018B-0001", SURVEY} <= set(table["PROPID"]) and len(table) == 7
    assert len(read_exposures(tmp_path / "exposures.ecsv")) == 7


def test_every_change_is_named_and_nothing_dropped(observed, client, tmp_path):
    update_exposures(client, tmp_path, SURVEY)
    gone = observed.rows.pop(0)
    observed.rows[0]["AIRMASS"] = 1.5  # a value corrected
    old_md5, observed.rows[1]["md5sum"] = observed.rows[1]["md5sum"], "f" * 32  # a file repaired
    observed.add("o9.fits.fz", b"o9", caldat="2019-04-20", dateobs_min="2019-04-20T06:00:00.000")
    update = update_exposures(client, tmp_path, SURVEY)
    assert update.counts == {"new": 1, "changed": 2, "vanished": 1, "returned": 0}
    table = read_exposures(tmp_path / "exposures.ecsv")
    assert len(table) == 7 and gone["md5sum"] in table["md5sum"] and old_md5 not in table["md5sum"]
    assert len(set(table["EXPNUM"])) == 7  # the repaired file took the place of the old one
    assert table["AIRMASS"][table["EXPNUM"] == observed.rows[0]["EXPNUM"]] == 1.5
    log = Table.read(tmp_path / "exposures_changes.ecsv")
    assert sorted(zip(log["change"], log["column"].filled(""), log["old"].filled(""), log["new"].filled(""))) == [
        ("changed", "AIRMASS", "1.1", "1.5"), ("changed", "md5sum", old_md5, "f" * 32),
        ("new", "", "", ""), ("vanished", "", "", ""),
    ]  # fmt: skip
    assert f"vanished: object {gone['EXPNUM']}" in " ".join(map(str, update.changes))
    # It stays away: named each time, logged once.
    update = update_exposures(client, tmp_path, SURVEY)
    assert update.counts["vanished"] == 1 and not update.written
    assert len(Table.read(tmp_path / "exposures_changes.ecsv")) == 4
    observed.rows.append(gone)
    assert update_exposures(client, tmp_path, SURVEY).summary == "1 returned"
    assert Table.read(tmp_path / "exposures_changes.ecsv")["change"][-1] == "returned"
    observed.rows.remove(gone)
    assert update_exposures(client, tmp_path, SURVEY).counts["vanished"] == 1
    assert Table.read(tmp_path / "exposures_changes.ecsv")["change"].tolist().count("vanished") == 2


def test_a_narrower_search_keeps_the_rest(observed, client, tmp_path):
    update_exposures(client, tmp_path, SURVEY)
    narrow = update_exposures(client, tmp_path, SURVEY, dates=("20190420", "20190420"))
    assert not narrow.changes and len(narrow.table) == 6 and narrow.found == 2
    narrow = update_exposures(client, tmp_path, SURVEY, obs_types=("object",))
    assert not narrow.changes and len(narrow.table) == 6 and len(narrow.missing) == 2
    observed.add("other.fits.fz", b"other", caldat="2019-04-01", PROPID="2018B-0001")
    other = update_exposures(client, tmp_path, "2018B-0001")
    assert other.summary == "1 new" and len(other.table) == 7


def test_any_observation_type_instrument_and_instcals(observed, client, tmp_path):
    observed.add("sky.fits.fz", b"sky", caldat="2019-04-01", obs_type="sky flat")
    observed.add("cal.fits.fz", b"cal", caldat="2019-04-01", proc_type="instcal", prod_type="image")
    update = update_exposures(
        client, tmp_path, SURVEY, obs_types=("object", "sky flat"), proc_types=("raw", "instcal")
    )  # fmt: skip
    assert sorted(update.table["obs_type"]) == ["object"] * 5 + ["sky flat"]
    assert update.nights["other_files"].tolist() == [1, 0] and update.nights["science"].tolist() == [2, 2]
    observed.add("m.fits.fz", b"m", instrument="mosaic3", telescope="kp4m")
    assert len(update_exposures(client, tmp_path / "m", SURVEY, instrument="mosaic3").table) == 1


def test_an_archive_that_knows_no_sizes(observed, client, tmp_path):
    observed.unknown_fields = {"filesize"}
    update = update_exposures(client, tmp_path, SURVEY)
    assert "filesize" not in update.table.colnames and update.nights["files_of_unknown_size"].tolist() == [4, 2]
    observed.unknown_fields = {"AIRMASS"}
    with pytest.raises(QueryRefused, match="AIRMASS is no field .BADFIELD."):
        update_exposures(client, tmp_path, SURVEY)


def test_a_failed_search_changes_nothing(observed, client, tmp_path):
    update_exposures(client, tmp_path, SURVEY)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    observed.failing["/api/adv_search"] = [500] * 50
    with pytest.raises(Unavailable):
        update_exposures(client, tmp_path, SURVEY)
    observed.failing["/api/adv_search"] = [403]
    with pytest.raises(QueryRefused, match="403"):
        update_exposures(Archive(observed.url), tmp_path, SURVEY)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_real_table_is_merged_and_comes_back_identical(shared_data, tmp_path):
    """8,915 real rows served by the simulation's server; the table on disk is the reference's own."""
    real_file = shared_data / "archive" / "exposures_object_raw.ecsv"
    (tmp_path / "exposures.ecsv").write_bytes(real_file.read_bytes())
    with serve_table(real_file) as server:
        server.holdings.rows()
        update = update_exposures(Archive(server.url), tmp_path, SURVEY)
        first = update_exposures(Archive(server.url), tmp_path / "first", SURVEY)
    assert not update.changes and not update.written and len(update.table) == 8915
    assert (tmp_path / "exposures.ecsv").read_bytes() == real_file.read_bytes()
    ours, real = read_exposures(tmp_path / "first" / "exposures.ecsv"), read_exposures(real_file)
    assert ours.colnames == real.colnames and first.nights["science"].sum() == 8915
    for name in ("md5sum", "EXPNUM", "FILTER", "OBJECT", "RA", "DEC", "exposure", "AIRMASS", "night", "band"):
        assert np.ma.asarray(ours[name]).tolist() == np.ma.asarray(real[name]).tolist(), name
    assert (ours["dateobs_min"].isot == real["dateobs_min"].isot).all()
