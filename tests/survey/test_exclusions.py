"""The list of exclusions: what holds, what was taken back, what a query leaves out."""

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.exclusions import Exclusion, Exclusions, as_yaml, new_entry, read_exclusions

NIGHTS = {1: "20190401", 2: "20190401", 3: "20190402"}


def listed(*entries: dict) -> Exclusions:
    return Exclusions(new_entry(n, **{"reason": "bad", **e}) for n, e in enumerate(entries, 1))


def test_an_entry_covers_what_it_names_together():
    have = listed({"exposures": [1], "detectors": [31]}, {"detectors": [61]}, {"nights": "20190402"})
    assert have.reason(1, 31, "20190401") == "bad (entry 1)"
    assert not have.reason(1, 30, "20190401") and not have.reason(2, 31, "20190401")
    assert have.reason(2, 61, "20190401") and have.reason(3, 5, "20190402") == "bad (entry 3)"
    assert not have.reason(1, None, "20190401")  # only one of its detectors is left out


def test_terms_name_what_the_query_has():
    have = listed({"exposures": [2, 1]}, {"exposures": [3], "detectors": [31, 4]}, {"detectors": [61]})
    assert have.terms(("exposure", "detector"), NIGHTS) == [
        "NOT (exposure IN (1, 2))", "NOT (exposure IN (3) AND detector IN (4, 31))", "NOT (detector IN (61))",
    ]  # fmt: skip
    assert have.terms(("visit",), NIGHTS) == ["NOT (visit IN (1, 2))"]
    assert have.terms(("tract", "patch"), NIGHTS) == []


def test_nights_become_their_exposures():
    assert listed({"nights": "20190401"}).terms(("visit", "detector"), NIGHTS) == ["NOT (visit IN (1, 2))"]
    assert listed({"nights": "201904.*", "detectors": [31]}).terms(("exposure", "detector"), NIGHTS) == [
        "NOT (exposure IN (1, 2, 3) AND detector IN (31))"
    ]
    assert listed({"nights": "2020.*"}).terms(("exposure",), NIGHTS) == []


def test_of_one_night_no_exposures_are_listed():
    have = listed(
        {"nights": "201904.*", "detectors": [31]}, {"nights": "2020.*"}, {"exposures": [1], "nights": "2019.*"}
    )
    terms = have.terms(("exposure", "detector"), {}, "20190401")
    assert terms == ["NOT (detector IN (31))", "NOT (exposure IN (1))"]
    assert have.terms(("visit", "detector"), {}, "20200101") == ["visit < 0"]


def test_an_amplifier_is_masked_not_left_out():
    have = listed({"detectors": [31], "amplifier": "B"})
    assert not have.reason(1, 31, "20190401") and have.terms(("exposure", "detector"), NIGHTS) == []
    assert [e.amplifier for e in have.amplifiers()] == ["B"]


def test_what_is_taken_back_holds_no_more_and_stays_in_the_history(tmp_path):
    first = new_entry(1, reason="clouds", exposures=[1])
    path = tmp_path / "exclusions.yaml"
    path.write_text("# a comment\n" + as_yaml(first) + as_yaml(Exclusion(2, "no clouds", takes_back=1)))
    have = read_exclusions(path)
    assert have.current == [] and have.version == 2 and have.history[0] == first
    assert have.at(1).current == [first]


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"exposures": [1], "reason": " "}, "no reason"),
        ({}, "nothing is named"),
        ({"detectors": [63]}, "63"),
        ({"detectors": [3], "amplifier": "C"}, "'C'"),
        ({"exposures": [3], "detectors": [3], "amplifier": "A"}, "amplifier"),
        ({"nights": "2019("}, "regular expression"),
    ],
)
def test_senseless_entries_are_refused(entry, found):
    with pytest.raises(SurveyError, match=found.replace("(", r"\(")):
        new_entry(1, **{"reason": "bad", **entry})


@pytest.mark.parametrize("text", ["- 3\n", "{a: 1}", "- {number: 2, reason: x, exposures: [1]}\n", "- [", "- {nun: 1}"])
def test_a_spoilt_file_is_named(tmp_path, text):
    path = tmp_path / "exclusions.yaml"
    path.write_text(text)
    with pytest.raises(SurveyError, match="exclusions.yaml"):
        read_exclusions(path)


def test_a_night_without_quotes_is_a_night(tmp_path):
    path = tmp_path / "exclusions.yaml"
    path.write_text("- {number: 1, reason: 1, nights: 20190401, exposures: [845001], amplifier: }\n")
    (entry,) = read_exclusions(path).current
    assert entry.of_night("20190401") and not entry.of_night("20190402")
    assert str(entry) == "1: exposure 845001, nights 20190401 (1)"
