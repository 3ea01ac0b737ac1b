"""Exposure records of real headers say what the observers' log says."""

import pickle

import pytest
import yaml
from astropy.io.fits import Header
from astropy.time import Time
from lsst.daf.butler import DimensionUniverse

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.translation import day_obs_record, exposure_record


class Loader(yaml.SafeLoader):
    """Reads the two forms of the saved headers: mappings, and lists of [keyword, type, value, comment]."""


Loader.add_constructor(
    "lsst.daf.base.PropertyList",
    lambda loader, node: {row[0]: row[2] for row in loader.construct_sequence(node, deep=True)[::-1]},
)


@pytest.fixture
def header(shared_data):
    def load(name):
        return yaml.load((shared_data / "headers" / f"fitsheader-decam-{name}.yaml").read_text(), Loader)

    return load


def test_science_exposure(header):
    record = exposure_record(header("raw_dec050441_25"))
    assert (record["instrument"], record["id"], record["obs_id"]) == ("DECam", 177764, "ct4m20130213t090140")
    assert record["group"] == "177764" and record["day_obs"] == 20130212
    assert record["physical_filter"] == "g DECam SDSS c0001 4720.0 1520.0"
    assert (record["observation_type"], record["observation_reason"]) == ("science", "science")
    assert (record["exposure_time"], record["dark_time"]) == (30.0, 31.1290202)
    assert (record["target_name"], record["science_program"]) == ("Trifid and Lagoon", "2013A-0351")
    assert record["zenith_angle"] == pytest.approx(55.59) and record["azimuth"] == pytest.approx(99.51)
    assert record["can_see_sky"] and not record["has_simulated"]
    begin = record["timespan"].begin
    assert begin.scale == "tai"
    assert begin.isclose(Time("2013-02-13T09:01:40.966998", scale="utc"))
    # The translator knows that this field's pointings are off, and mends them.
    assert record["tracking_ra"] == pytest.approx(270.6114, abs=1e-3)


def test_pointing_of_a_community_pipeline_header(header):
    record = exposure_record(header("instcal-c4d_190402_050618_ooi_VR_v1"))
    assert record["id"] == 845291 and record["day_obs"] == 20190401
    assert record["tracking_ra"] == pytest.approx(215.87037, abs=1e-4)
    assert record["tracking_dec"] == pytest.approx(-13.60661, abs=1e-4)
    assert (record["timespan"].end - record["timespan"].begin).to_value("s") == pytest.approx(120)


def test_zero_gets_the_filter_of_zeros(header):
    raw = header("0160496")
    assert raw["FILTER"].startswith("Y")
    record = exposure_record(raw)
    assert record["physical_filter"] == "solid plate 0.0 0.0"
    assert (record["observation_type"], record["exposure_time"], record["day_obs"]) == ("zero", 0.0, 20121211)
    assert record["can_see_sky"] is False
    assert raw["FILTER"].startswith("Y"), "the caller's header is left as it was"


def test_records_fit_the_dimension_universe_and_cross_processes(header):
    universe = DimensionUniverse()
    record = pickle.loads(pickle.dumps(exposure_record(header("raw_dec050441_25"))))
    assert set(record) == {field.name for field in universe["exposure"].RecordClass.fields.standard} | {"timespan"}
    universe["exposure"].RecordClass(**record)
    day = day_obs_record(record["day_obs"])
    universe["day_obs"].RecordClass(**day)
    assert day["timespan"].contains(record["timespan"].begin)
    assert day["timespan"].begin.isclose(Time("2013-02-12T12:00:00", scale="tai"))


def test_fits_headers_do_as_well(header):
    raw = {key: value for key, value in header("raw_dec050441_25").items() if len(key) <= 8 and value == value}
    assert exposure_record(Header(raw))["id"] == 177764


def test_end_before_the_beginning_becomes_the_beginning(header):
    span = exposure_record(header("raw_dec050441_25") | {"DTUTC": "2013-02-12T00:00:00"})["timespan"]
    assert (span.end - span.begin).to_value("s") < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"EXPNUM": None}, "c4d.fits.fz cannot be translated"),
        ({"FILTER": None}, "c4d.fits.fz cannot be translated"),
        ({"FILTER": "w DECam c9999 1.0 1.0"}, "c4d.fits.fz has FILTER 'w DECam c9999 1.0 1.0'; expected one of 'u "),
    ],
)
def test_headers_that_cannot_be_used(header, change, message):
    raw = header("raw_dec050441_25") | change
    with pytest.raises(SurveyError, match=message):
        exposure_record({key: value for key, value in raw.items() if value is not None}, "c4d.fits.fz")
