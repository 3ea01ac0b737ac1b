"""Completeness by magnitude, from a table whose answer is known."""

from astropy.table import Table

from proc_decam_dagster.report.recovery import completeness, completeness_picture


def test_completeness_by_magnitude():
    mags = [21.1, 21.4, 21.6, 22.9, 22.95]
    recovery = Table({"mag": mags, "recovered": [True, True, True, False, True]})
    assert completeness(recovery) == [(21.25, 2, 2), (21.75, 1, 1), (22.75, 2, 1)]
    assert completeness_picture(recovery, "night")[1:4] == b"PNG"


def test_no_fakes_are_said_to_be_none():
    assert completeness_picture(Table(), "night")[1:4] == b"PNG"
