"""Fakes: any table of astropy's, checked, split by band; the new one takes the old one's place."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import ingest_fakes
from proc_decam_dagster.repository.fakes import read_fakes


@pytest.fixture
def table():
    return Table(
        {
            "RA": [149.4, 149.5, 149.6], "DEC": [1.7, 1.8, 1.6], "MAG": [21.0, 22.5, 23.0],
            "BAND": ["VR", "Y", "VR"], "EXPNUM": [845005, 845005, 845006],
        }
    )  # fmt: skip


def get(repo, band, collections="fakes"):
    return repo.butler().get("fakes_table", instrument="DECam", band=band, collections=collections)


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "csv"])
def test_any_table_of_astropys(repo, table, tmp_path, suffix):
    table.write(tmp_path / f"fakes.{suffix}")
    assert ingest_fakes(repo, tmp_path / f"fakes.{suffix}") == {"VR": 2, "y": 1}
    found = get(repo, "VR")
    assert found.colnames == ["ra", "dec", "mag", "expnum", "fake_id"]
    assert list(found["ra"]) == [149.4, 149.6]
    assert list(found["expnum"]) == [845005, 845006]
    assert list(found["fake_id"]) == [1, 3]
    assert list(get(repo, "y")["mag"]) == [22.5]


def test_the_new_table_takes_the_place_of_the_old(repo, table, tmp_path):
    table.write(tmp_path / "one.fits")
    table[:1].write(tmp_path / "two.fits")
    ingest_fakes(repo, tmp_path / "one.fits")
    (run,) = repo.butler().collections.get_info("fakes").children
    assert ingest_fakes(repo, tmp_path / "two.fits") == {"VR": 1}
    assert len(get(repo, "VR")) == 1
    assert not repo.butler().query_datasets("fakes_table", "fakes", where="band='y'", explain=False)
    assert len(get(repo, "VR", run)) == 2  # the old one is kept in its own run


def test_after_an_empty_chain(night, table, tmp_path):
    from proc_decam_dagster.repository import update_chain

    chain = update_chain(night, "drp", "20190401")
    table.write(tmp_path / "fakes.fits")
    ingest_fakes(night, tmp_path / "fakes.fits")
    assert len(get(night, "VR", chain)) == 2


@pytest.mark.parametrize("column", ["RA", "DEC", "MAG", "EXPNUM"])
def test_missing_column_is_named_and_nothing_is_written(repo, table, tmp_path, column):
    table.remove_column(column)
    table.write(tmp_path / "fakes.fits")
    with pytest.raises(SurveyError, match=f"has no column {column}; expected the columns RA, DEC, MAG, EXPNUM"):
        ingest_fakes(repo, tmp_path / "fakes.fits")
    assert not list(repo.butler().registry.queryDatasetTypes("fakes_table"))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("BAND", ["VR", "K", "VR"], "band K is unknown"),
        ("MAG", [21.0, np.nan, 22.0], "MAG is not a number"),
        ("EXPNUM", ["one", "two", "three"], "EXPNUM is not a number"),
        ("DEC", [1.7, 91.0, 1.6], "off the sky"),
    ],
)
def test_values_without_a_meaning(table, tmp_path, column, values, message):
    table[column] = values
    table.write(tmp_path / "fakes.fits")
    with pytest.raises(SurveyError, match=message):
        read_fakes(tmp_path / "fakes.fits")


def test_a_table_that_names_no_band_is_of_the_surveys(table, tmp_path):
    table.remove_column("BAND")
    table.write(tmp_path / "fakes.fits")
    assert set(read_fakes(tmp_path / "fakes.fits")["band"]) == {"VR"}


def test_no_table(table, tmp_path):
    with pytest.raises(SurveyError, match="does not exist"):
        read_fakes(tmp_path / "none.fits")
    (tmp_path / "fakes.fits").write_text("not a table")
    with pytest.raises(SurveyError, match="cannot be read"):
        read_fakes(tmp_path / "fakes.fits")
    table[:0].write(tmp_path / "empty.fits")
    with pytest.raises(SurveyError, match="is empty"):
        read_fakes(tmp_path / "empty.fits")


def test_column_names_in_any_case(table, tmp_path):
    table.rename_columns(table.colnames, [c.lower() for c in table.colnames])
    table.write(tmp_path / "fakes.ecsv")
    assert len(read_fakes(tmp_path / "fakes.ecsv")) == 3
