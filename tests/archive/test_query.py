"""The search for a survey, with synthetic rows and with the real table."""

import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time

from proc_decam_dagster.archive import count_exposures, query_exposures
from proc_decam_dagster.archive.query import OUTFIELDS, exposure_table
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.exposures import read_exposures, write_exposures

ZERO = {"obs_type": "zero", "FILTER": "solid plate 0.0 0.0", "exposure": 0.0, "PROPID": "2019A-0001", "OBJECT": None}
FLAT = {"obs_type": "dome flat", "PROPID": "2019A-0001"}


def survey(local) -> None:
    for i, (night, name) in enumerate((("2019-04-01", "VR"), ("2019-04-01", "r"), ("2019-04-02", "VR"))):
        local.add(f"o{i}", b"o%d" % i, caldat=night, FILTER=f"{name} DECam c0007 6300.0 2600.0")
    for i in range(3):
        local.add(f"z{i}", b"z%d" % i, caldat="2019-04-01", **ZERO)
        local.add(f"f{i}", b"f%d" % i, caldat="2019-04-01", **FLAT)
    local.add("g", b"g", caldat="2019-04-01", **(FLAT | {"FILTER": "g DECam SDSS c0001 4720.0 1520.0"}))
    local.add("other", b"other", caldat="2019-04-01", PROPID="2018B-0001")
    local.add("cal", b"cal", caldat="2019-04-01", proc_type="instcal")


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_objects_then_the_calibrations_of_their_nights_and_bands(local, client, prefix):
    survey(local)
    local.prefix = prefix
    steps = []
    table, missing = query_exposures(client, "2019A-0337", progress=lambda *a: steps.append(a))
    assert list(table["obs_type"]).count("object") == 3 and set(table["PROPID"][table["obs_type"] == "zero"]) != {""}
    assert list(table["obs_type"]).count("zero") == 3
    assert set(table["band"][table["obs_type"] == "dome flat"]) == {"VR"}  # no one observed in g that night
    assert sorted(zip(missing["observation_type"], missing["caldat"], missing["band"], strict=True), key=str) == [
        ("bias", "2019-04-02", None), ("flat", "2019-04-01", "r"), ("flat", "2019-04-02", "VR"),
    ]  # fmt: skip
    assert steps[-1][:2] == (2, 2)  # both nights in one search of each kind
    assert count_exposures(client, ["2019A-0337", "2018B-0001"]) == 4


def test_dates_and_proc_types(local, client):
    survey(local)
    table, _ = query_exposures(client, ["2019A-0337"], dates=("20190402", "2019-04-30"))
    assert set(table["night"]) == {20190402}
    table, _ = query_exposures(client, "2019A-0337", proc_types=("raw", "instcal"), obs_types=("object",))
    assert list(table["proc_type"]).count("instcal") == 1 and set(table["obs_type"]) == {"object"}
    with pytest.raises(SurveyError, match="no raw decam exposures of 2031A-0001 from 2019-04-01 to 2019-04-02"):
        query_exposures(client, "2031A-0001", dates=("20190401", "20190402"))
    with pytest.raises(SurveyError, match="is no date"):
        query_exposures(client, "2019A-0337", dates=("April", "May"))


def test_odd_values(local, client, tmp_path, caplog):
    local.add("a", b"a", AIRMASS="None", OBJECT=None, RA="None", EXPNUM="845001", exposure="30.0")
    local.add("b", b"b", EXPNUM=7, RA="215.5", DEC="nonsense")
    local.add("c", b"c", EXPNUM=None)
    table, missing = query_exposures(client, "2019A-0337")
    write_exposures(table, tmp_path / "t.ecsv")
    write_exposures(missing, tmp_path / "m.ecsv")
    back = read_exposures(tmp_path / "t.ecsv")
    a, b = back[back["EXPNUM"] == 845001][0], back[back["EXPNUM"] != 845001][0]
    assert len(back) == 2 and "no EXPNUM" in caplog.text
    assert np.isnan(a["AIRMASS"]) and a["OBJECT"] is np.ma.masked and np.isnan(a["RA(deg)"]) and a["exposure"] == 30
    assert b["RA(deg)"] == 215.5 and np.isnan(b["DEC(deg)"])
    assert Table.read(tmp_path / "m.ecsv")["band"].tolist() == [None, "VR"]


def test_dates_and_types_that_hold_nothing_are_told(local, client):
    local.add("o", b"o")
    with pytest.raises(SurveyError, match="from 2019-05-02 to 2019-04-01 hold no night"):
        query_exposures(client, "2019A-0337", dates=("20190502", "20190401"))
    with pytest.raises(SurveyError, match="no exposures of type sky flat .* check --obs-types"):
        query_exposures(client, "2019A-0337", obs_types=["sky flat"])


def test_no_missing_data_is_an_empty_table(local, client, tmp_path):
    local.add("o", b"o")
    local.add("z", b"z", **ZERO)
    local.add("f", b"f", **FLAT)
    _, missing = query_exposures(client, "2019A-0337")
    write_exposures(missing, tmp_path / "m.ecsv")
    assert Table.read(tmp_path / "m.ecsv").colnames == ["observation_type", "caldat", "band"] and not len(missing)


def test_the_real_table_comes_back_identical(shared_data, local, client, tmp_path):
    """8,915 real exposures as archive rows, over HTTP in pages, through a file: the table that the reference wrote."""
    real = read_exposures(shared_data / "archive" / "exposures_object_raw.ecsv")
    starts = Time(real["mjd"], format="mjd", precision=6).isot  # the archive has microseconds, the table's text less
    constants = {"instrument": "decam", "telescope": "ct4m"}
    plain = {n: [None if v is np.ma.masked else v for v in real[n].tolist()] for n in OUTFIELDS if n != "dateobs_min"}
    for i, start in enumerate(starts):
        local.rows.append(constants | {n: values[i] for n, values in plain.items()} | {"dateobs_min": str(start)})
    local.largest_page = 3000
    ours, missing = query_exposures(client, "2019A-0337")
    write_exposures(ours, tmp_path / "exposures.ecsv")
    back = read_exposures(tmp_path / "exposures.ecsv")
    assert back.colnames == real.colnames
    real.sort("md5sum")
    back.sort("md5sum")
    for name in real.colnames:
        assert back[name].dtype == real[name].dtype if name[:4] != "date" else True, name
        if name in ("mjd", "mjd_midpoint"):
            np.testing.assert_allclose(back[name], real[name], rtol=0, atol=2e-11)
        elif name.endswith("(deg)"):
            np.testing.assert_allclose(back[name], real[name], rtol=0, atol=1e-10)
            assert back[name].unit == real[name].unit
        elif name.startswith("dateobs"):  # written with milliseconds
            assert np.abs((back[name] - real[name]).sec).max() < 1.1e-3, name
        else:
            assert np.ma.asarray(back[name]).tolist() == np.ma.asarray(real[name]).tolist(), name
    assert len(missing) > 64  # the real table holds no calibrations, so every night lacks them
    header = (tmp_path / "exposures.ecsv").read_text().splitlines()[:30]
    expected = (shared_data / "archive" / "exposures_object_raw.ecsv").read_text().splitlines()[:30]
    assert header[3:27] == expected[3:27]


def test_an_empty_answer_makes_an_empty_table():
    assert exposure_table([]).colnames[-1] == "band"
