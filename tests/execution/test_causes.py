"""Failures are told cause by cause, in few words."""

import pytest

from proc_decam_dagster.execution.causes import message_pattern, short_data_ids


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 stars, need 30 (isr.py:31)", "7 stars, need 30 (isr.py:32)"),
        ("no file /a/b/c.fits", "no file /a/d.fits"),
        ("dataset 01a202d3-3b74-78f4-b4e8-598186dd939d", "dataset 02a202d3-3b74-78f4-b4e8-598186dd939e"),
        ("bad {detector: 3}", "bad {detector: 31, visit: 4}"),
        ("seeing 1.35 px", "seeing 2e-3 px"),
    ],
)
def test_messages_of_one_cause(one, other):
    assert message_pattern(one) == message_pattern(other)


def test_messages_of_two_causes():
    assert message_pattern("no stars") != message_pattern("no sources")


def test_data_ids_in_short_form():
    ids = [{"instrument": "DECam", "detector": d, "visit": v} for d in (1, 2, 3, 31) for v in (830016, 830018)]
    assert short_data_ids(ids) == "detector 1-3,31 visit 830016,830018"
    assert short_data_ids([{"tract": 1, "band": "r"}, {"tract": 1, "band": "VR"}]) == "tract 1 band VR,r"
    assert short_data_ids([{"visit": 2 * v} for v in range(20)]).endswith(",14 and 12 more")
    assert short_data_ids([{"instrument": "DECam"}]) == "the whole chain"
