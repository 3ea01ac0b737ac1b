"""Header cards and names."""

import pytest
import yaml

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.simulation import headers, optics
from proc_decam_dagster.simulation.plan import SurveyPlan, exposures_of_night

EXPOSURES = exposures_of_night(SurveyPlan(zeros=1, flats=1, exposures_per_night=1), 0, "20190217", "science")


@pytest.fixture(scope="module")
def real(request):
    shared_data = request.getfixturevalue("shared_data")
    return yaml.safe_load((shared_data / "headers" / "fitsheader-decam-raw_dec050441_25.yaml").read_text())


def test_extension_cards_equal_the_real_ones(real):
    cards = {k: v for k, v, _ in headers.extension(DETECTORS[25], optics.header_cards(25, EXPOSURES[-1]))}
    sections = [k for k in real if "SEC" in k and not k.startswith(("SB_", "OPEN"))]
    assert len(sections) > 15
    for key in [*sections, "DETSIZE", "CCDNUM", "DETPOS", "LTV1", "LTV2", "CTYPE1", "CRPIX1", "CRPIX2"]:
        assert cards[key] == real[key], key


def test_primary_has_the_real_keywords_that_matter(real):
    cards = {k: v for k, v, _ in headers.primary(EXPOSURES[-1], 70)}
    for key in (
        "NEXTEND", "PROCTYPE", "PRODTYPE", "OBS-LONG", "OBS-LAT", "OBS-ELEV", "TELESCOP", "INSTRUME",
        "EXPREQ", "EXPTIME", "DARKTIME", "OBSID", "DATE-OBS", "MJD-OBS", "EXPNUM", "OBSTYPE", "PROPID",
        "FILTER", "RA", "DEC", "TELRA", "TELDEC", "HA", "ZD", "AZ", "AIRMASS", "DTCALDAT", "DTUTC",
        "HUMIDITY", "PRESSURE",
    ):  # fmt: skip
        assert type(cards[key]) is type(real[key]), key
    assert cards["OBS-LONG"] == real["OBS-LONG"]


@pytest.mark.parametrize("exposure", EXPOSURES, ids=lambda e: e.obs_type)
def test_translates(exposure):
    from astro_metadata_translator import ObservationInfo

    header = {k: v for k, v, _ in headers.primary(exposure, 4)}
    header |= {k: v for k, v, _ in headers.extension(DETECTORS[35], optics.header_cards(35, exposure))}
    info = ObservationInfo(header, pedantic=True)
    assert info.exposure_id == info.visit_id == exposure.expnum
    assert info.physical_filter == exposure.physical_filter
    assert info.observation_type == {"object": "science"}.get(exposure.obs_type, exposure.obs_type)
    assert (info.detector_num, info.detector_group, info.detector_name) == (35, "N", "4")
    assert str(info.observing_day) == exposure.night
    if exposure.obs_type == "object":
        assert info.tracking_radec.ra.deg == pytest.approx(exposure.ra, abs=1e-4)
        assert info.altaz_begin.alt.deg > 40


def test_names():
    assert [headers.file_name(e)[-11:] for e in EXPOSURES] == ["zri.fits.fz", "fri.fits.fz", "ori.fits.fz"]
    assert headers.file_name(EXPOSURES[0]) == "c4d_190217_203000_zri.fits.fz"
    assert headers.caldat(EXPOSURES[-1]) == "2019-02-17"


def test_sexagesimal():
    assert headers.sexagesimal(-0.5) == "-00:30:00.000"
    assert headers.sexagesimal(9.99999999) == "10:00:00.000"
