"""The camera's facts agree with real headers and with each other."""

import numpy as np
import pytest
import yaml

from proc_decam_dagster.camera.crosstalk import intra_ccd, source_detectors, sources
from proc_decam_dagster.camera.detectors import DETECTORS, detector
from proc_decam_dagster.camera.filters import FILTERS, band_of
from proc_decam_dagster.camera.geometry import RAW_SHAPE, TRIMMED_SHAPE, Box
from proc_decam_dagster.errors import SurveyError


@pytest.fixture(scope="module")
def raw_header(shared_data):
    return yaml.safe_load((shared_data / "headers" / "fitsheader-decam-raw_dec050441_25.yaml").read_text())


def test_all_62_science_detectors_are_there():
    assert list(DETECTORS) == list(range(1, 63))
    assert (DETECTORS[1].name, DETECTORS[25].name, DETECTORS[32].name, DETECTORS[62].name) == ("S29", "S1", "N1", "N31")
    assert (DETECTORS[1].raft, DETECTORS[1].name_in_raft) == ("S", "29")
    assert len({each.name for each in DETECTORS.values()}) == 62
    with pytest.raises(SurveyError, match="CCDNUM from 1 to 62"):
        detector(70)


@pytest.mark.parametrize("name", "AB")
def test_sections_are_those_of_a_real_raw_header(raw_header, name):
    amplifier = DETECTORS[raw_header["CCDNUM"]].amplifier(name)
    assert DETECTORS[25].name == raw_header["DETPOS"]
    assert amplifier.raw_data == Box.from_section(raw_header[f"DATASEC{name}"])
    assert amplifier.raw_overscan == Box.from_section(raw_header[f"BIASSEC{name}"])
    assert amplifier.bbox == Box.from_section(raw_header[f"CCDSEC{name}"])
    assert amplifier.raw_data.section() == raw_header[f"DATASEC{name}"]
    # AMPSEC is written in read order: its first corner is the pixel read first.
    first_x, first_y = (int(part.split(":")[0]) for part in raw_header[f"AMPSEC{name}"].strip("[]").split(","))
    assert amplifier.flip_x == (first_x == amplifier.bbox.x1)
    assert amplifier.flip_y == (first_y == amplifier.bbox.y1)


@pytest.mark.parametrize("name", "AB")
def test_gain_noise_and_saturation_are_near_those_of_a_real_raw_header(raw_header, name):
    amplifier = DETECTORS[25].amplifier(name)
    assert amplifier.gain == pytest.approx(raw_header[f"GAIN{name}"], rel=0.2)
    assert amplifier.read_noise == pytest.approx(raw_header[f"RDNOISE{name}"], rel=0.25)
    assert amplifier.saturation == pytest.approx(raw_header[f"SATURAT{name}"], rel=0.2)


def test_numbers_of_n4_are_the_published_ones():
    amplifier = detector(35).amplifier("A")
    assert (amplifier.gain, amplifier.read_noise, amplifier.saturation) == (4.025, 12.268, 44144)


@pytest.mark.parametrize("each", DETECTORS.values(), ids=lambda each: each.name)
def test_amplifiers_tile_the_detector(each):
    trimmed, raw = np.zeros(TRIMMED_SHAPE, np.uint8), np.zeros(RAW_SHAPE, np.uint8)
    for amplifier in each.amplifiers:
        assert amplifier.bbox.shape == amplifier.raw_data.shape == (4096, 1024)
        assert amplifier.raw_overscan.shape == (4096, 50)
        assert amplifier.raw_data.y0 == amplifier.raw_overscan.y0 == (50 if each.raft == "S" else 0)
        assert 1 < amplifier.gain < 6 and 2 < amplifier.read_noise < 30 and 25000 < amplifier.saturation < 65535
        trimmed[amplifier.bbox.slices] += 1
        raw[amplifier.raw_data.slices] += 1
        raw[amplifier.raw_overscan.slices] += 1
    assert (trimmed == 1).all()
    assert raw.max() == 1
    # Amplifiers read outwards, each from its own edge; S detectors from the top, N detectors from the bottom.
    left, right = sorted(each.amplifiers, key=lambda amplifier: amplifier.bbox.x0)
    assert (left.flip_x, right.flip_x) == (False, True)
    assert left.flip_y == right.flip_y == (each.raft == "S")
    assert (left.name, right.name) == (("B", "A") if each.raft == "S" else ("A", "B"))


def test_filters_and_bands():
    assert band_of("g DECam SDSS c0001 4720.0 1520.0") == "g"
    assert band_of("Y DECam c0005 10095.0 1130.0") == "y"
    assert band_of("solid plate 0.0 0.0") == "opaque"
    assert (band_of("VR"), band_of("Y"), band_of("y")) == ("VR", "y", "y")
    assert FILTERS["VR DECam c0007 6300.0 2600.0"].wavelength_nm == 630
    assert len({each.band for each in FILTERS.values()}) == len(FILTERS) == 12
    with pytest.raises(SurveyError, match="filter 'w'"):
        band_of("w")


def test_every_filter_of_a_real_survey_is_known(shared_data):
    from astropy.table import Table

    names = set(Table.read(shared_data / "archive" / "exposures_object_raw.ecsv")["FILTER"])
    assert names and {band_of(name) for name in names} <= {each.band for each in FILTERS.values()}


def test_crosstalk_is_the_published_table(shared_data):
    assert intra_ccd(25) == pytest.approx(np.array([[0, 3.16e-4], [1.34e-4, 0]]))
    assert ("A", 25, "B", 3.90e-05) in [row[:4] for row in sources(26)]
    lines = (shared_data / "camera" / "DECam_xtalk_20130606.txt").read_text().splitlines()
    assert sum(len(sources(each)) for each in DETECTORS) == sum(line.startswith("ccd") for line in lines)


def test_crosstalk_sources_of_a_detector():
    assert 25 in source_detectors([26]) and 26 not in source_detectors([26])
    for each in DETECTORS:
        assert np.abs(intra_ccd(each)).max() < 2e-3
        assert np.diag(intra_ccd(each)).tolist() == [0, 0]
