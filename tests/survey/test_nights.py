"""Nights: written YYYYMMDD, matched by regular expressions."""

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.nights import is_night, matching_nights, night_of

NIGHTS = ["20190401", "20190402", "20200101"]


def test_night_of_a_caldat():
    assert night_of("2019-04-01") == "20190401"


@pytest.mark.parametrize("caldat", ["2019-4-1", "", "None", "2019-04-011"])
def test_caldat_that_is_no_date(caldat):
    with pytest.raises(SurveyError, match="caldat"):
        night_of(caldat)


def test_is_night():
    assert is_night("20190401")
    assert not is_night("2019")
    assert not is_night("./data/exposures.ecsv")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("20190401", ["20190401"]),
        (".*", NIGHTS),
        ("2019*", ["20190401", "20190402"]),
        ("2019.*", ["20190401", "20190402"]),
        ("2019040[12]", ["20190401", "20190402"]),
        ("20190401|20200101", ["20190401", "20200101"]),
    ],
)
def test_patterns_match_from_start_to_end(pattern, expected):
    assert matching_nights(pattern, NIGHTS) == expected


def test_integers_are_nights_too_and_come_once():
    assert matching_nights("2019.*", [20190402, 20190401, "20190401"]) == ["20190401", "20190402"]


@pytest.mark.parametrize("pattern", ["2019", "0401", "2021.*"])
def test_no_match_names_the_nights_there_are(pattern):
    with pytest.raises(SurveyError, match="20190401, 20190402, 20200101"):
        matching_nights(pattern, NIGHTS)


def test_pattern_that_is_no_regular_expression():
    with pytest.raises(SurveyError, match="no regular expression"):
        matching_nights("2019(", NIGHTS)
