"""What a graph's query says."""

import pytest

from proc_decam_dagster.execution.graph import _as_override, constrained

BOTH = ("instrument", "skymap", "tract", "visit")
NAMES = {"instrument": "DECam", "skymap": "skymap='discrete'"}


def test_instrument_and_skymap_are_added():
    assert constrained("", BOTH, **NAMES) == "instrument='DECam' AND skymap='discrete'"
    assert constrained("detector=1 OR detector=2", ("instrument",), **NAMES) == (
        "(detector=1 OR detector=2) AND instrument='DECam'"
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("instrument='DECam' and detector=1", "(instrument='DECam' and detector=1) AND skymap='discrete'"),
        ("skymap = 'rings' AND tract=3", "(skymap = 'rings' AND tract=3) AND instrument='DECam'"),
        ("skymap.tract_max > 1", "(skymap.tract_max > 1) AND instrument='DECam' AND skymap='discrete'"),
    ],
)
def test_what_the_user_names_is_left_alone(where, expected):
    assert constrained(where, BOTH, **NAMES) == expected


def test_graph_without_a_skymap_is_not_constrained_by_one():
    assert "skymap" not in constrained("", ("instrument", "exposure"), **NAMES)
    assert constrained("", ("skymap",), instrument="DECam", skymap="") == ""


@pytest.mark.parametrize(
    ("given", "meant"),
    [("os", "'os'"), ("min", "'min'"), ("1.5", 1.5), ("[1, 2]", [1, 2]), (3, 3), ("it's", '"it\'s"')],
)
def test_text_in_configuration_is_text(given, meant):
    assert _as_override(given) == meant
