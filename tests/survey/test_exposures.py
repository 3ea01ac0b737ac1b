"""The exposure table: read, written, selected; the real tables of a real survey among them."""

import os

import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey import exposures
from proc_decam_dagster.survey.exposures import (
    file_name,
    merge_exposures,
    nights_of,
    read_exposures,
    rows_of_nights,
    rows_of_obs_type,
    select_nights,
    select_rows,
    write_exposures,
)


@pytest.fixture
def table() -> Table:
    rows = [
        ("object", "2019-04-01", "aa", "raw", "/net/a/c4d_1_ori.fits.fz", 845001, 20190401, "VR"),
        ("object", "2019-04-01", "ab", "instcal", "/net/a/c4d_1_ooi.fits.fz", 845001, 20190401, "VR"),
        ("zero", "2019-04-01", "ac", "raw", "/net/a/c4d_2_zri.fits.fz", 845000, 20190401, "solid"),
        ("dome flat", "2019-04-02", "ad", "raw", "/net/a/c4d_3_fri.fits.fz", 845100, 20190402, "VR"),
    ]
    names = ("obs_type", "caldat", "md5sum", "proc_type", "archive_filename", "EXPNUM", "night", "band")
    return Table(rows=rows, names=names)


def test_written_and_read_back_whole(table, tmp_path):
    path = tmp_path / "deep" / "er" / "exposures.ecsv"
    write_exposures(table, path)
    assert os.listdir(path.parent) == ["exposures.ecsv"]  # no part is left
    read = read_exposures(path)
    assert read.colnames == table.colnames
    assert all((read[c] == table[c]).all() for c in table.colnames)


def test_missing_file_names_the_command(tmp_path):
    with pytest.raises(SurveyError, match="proc-decam exposures"):
        read_exposures(tmp_path / "none.ecsv")


@pytest.mark.parametrize("content", ["", "not a table\n", "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a\n"])
def test_file_that_is_no_table(tmp_path, content):
    path = tmp_path / "exposures.ecsv"
    path.write_text(content)
    with pytest.raises(SurveyError, match="cannot be read as ECSV|has no column"):
        read_exposures(path)


@pytest.mark.parametrize("column", exposures.REQUIRED)
def test_missing_column_is_named(table, tmp_path, column):
    table.remove_column(column)
    write_exposures(table, tmp_path / "exposures.ecsv")
    with pytest.raises(SurveyError, match=f"has no column {column}"):
        read_exposures(tmp_path / "exposures.ecsv")


def test_selection_of_nights_and_types(table):
    assert nights_of(table) == ["20190401", "20190402"]
    assert list(rows_of_nights(table, ["20190402"])["md5sum"]) == ["ad"]
    assert list(select_nights(table, "2019.*2")["md5sum"]) == ["ad"]
    assert list(rows_of_obs_type(table, "object")["md5sum"]) == ["aa"]  # the instcal is no raw


def test_unknown_night_names_those_there_are(table):
    with pytest.raises(SurveyError, match="20190401, 20190402"):
        select_nights(table, "20180101")


def test_select_rows(table):
    assert list(select_rows(table, ["obs_type=zero|object", "proc_type=raw"])["md5sum"]) == ["aa", "ac"]
    assert len(select_rows(table, [])) == len(table)
    assert len(select_rows(table, ["obs_type=zer"])) == 0


@pytest.mark.parametrize("selection", ["obs_type", "colour=red"])
def test_selection_that_cannot_be_applied(table, selection):
    with pytest.raises(SurveyError, match="COLUMN=VALUE"):
        select_rows(table, [selection])


def test_selection_with_a_mistyped_pattern(table):
    with pytest.raises(SurveyError, match=r"selection 'band=\[' is no regular expression"):
        select_rows(table, ["band=["])


def test_file_name_is_md5_and_archive_name(table):
    assert file_name(table[0]) == "aa_c4d_1_ori.fits.fz"


def test_merge_keeps_the_newer_row_of_a_file(table):
    newer = table[:1].copy()
    newer["band"] = ["r"]
    merged = merge_exposures(table, newer)
    assert len(merged) == len(table)
    assert merged["band"][merged["md5sum"] == "aa"][0] == "r"
    assert (np.diff(merged["EXPNUM"]) >= 0).all()


def test_merge_into_nothing(table):
    assert len(merge_exposures(None, table)) == len(table)
    assert len(merge_exposures(table[:0], table)) == len(table)


def test_merge_of_tables_with_different_columns(table):
    other = table[3:].copy()
    other["md5sum"] = ["zz"]
    other.remove_column("proc_type")
    assert len(merge_exposures(table, other)) == len(table) + 1


@pytest.fixture(scope="module")
def real(shared_data) -> Table:
    return read_exposures(shared_data / "archive" / "exposures_object_raw.ecsv")


def test_real_table_of_a_survey(real):
    assert len(real) == 8915
    assert len(rows_of_obs_type(real, "object")) == 8915
    assert set(np.char.replace(np.asarray(real["caldat"]).astype(str), "-", "")) == set(nights_of(real))


def test_night_of_the_real_table_is_local_noon_to_noon(real):
    # Chile is three or four hours behind UTC: its noon is at 15 or 16 UTC, when no science exposure is taken.
    days = Time(np.asarray(real["mjd"]) - 15.5 / 24, format="mjd").strftime("%Y%m%d")
    assert (days == np.asarray(real["night"]).astype(str)).all()


def test_real_nights_are_selected_by_the_reference_patterns(real):
    night = select_nights(real, "20190401")
    assert len(night) and set(night["night"]) == {20190401}
    assert nights_of(select_nights(real, "2019*")) == [n for n in nights_of(real) if n.startswith("2019")]


def test_real_table_survives_writing(real, tmp_path):
    some = real[:200]
    write_exposures(some, tmp_path / "e.ecsv")
    read = read_exposures(tmp_path / "e.ecsv")
    assert read.colnames == some.colnames
    assert list(read["md5sum"]) == list(some["md5sum"])
    assert np.allclose(read["RA(deg)"], some["RA(deg)"])


def test_real_table_merged_with_itself_is_itself(real):
    assert len(merge_exposures(real, real[:100])) == len(real)


def test_other_real_tables_are_told_apart(shared_data):
    with pytest.raises(SurveyError, match="has no column"):
        read_exposures(shared_data / "archive" / "downloaded_exposures.ecsv")
    missing = read_exposures(shared_data / "archive" / "missing_data.ecsv", required=("observation_type", "caldat"))
    assert set(missing["observation_type"]) == {"bias", "flat"}
