"""The search's semantics, on rows without files."""

import pytest

from proc_decam_dagster.simulation.query import QueryError, find

ROWS = [
    {
        "md5sum": f"{n:032x}", "instrument": "decam", "proc_type": "raw", "caldat": f"2019-04-{1 + n % 3:02d}",
        "dateobs_min": f"2019-04-{1 + n % 3:02d}T23:00:00.000", "exposure": 10.0 * n,
        "obs_type": "zero" if n % 2 else "object",
        "ifilter": "VR DECam c0007 6300.0 2600.0", "proposal": "2019A-0337", "EXPNUM": 100 + n, "OBJECT": None,
    }
    for n in range(10)
]  # fmt: skip


def md5s(*search, **parameters):
    payload = {"outfields": ["md5sum"], "search": [["instrument", "decam"], *search]}
    return [int(row["md5sum"], 16) for row in find(ROWS, payload, {k: str(v) for k, v in parameters.items()})[1:]]


def test_filters():
    assert md5s(["obs_type", "zero"]) == [1, 3, 5, 7, 9]
    assert md5s(["obs_type", "zero", "object"]) == list(range(10))
    assert md5s(["caldat", "2019-04-02", "2019-04-03"]) == [1, 2, 4, 5, 7, 8]
    assert md5s(["dateobs_min", "2019-04-01", "2019-04-02"]) == [0, 1, 3, 4, 6, 7, 9]
    assert md5s(["exposure", 20, 40]) == [2, 3, 4]
    assert md5s(["EXPNUM", 105]) == [5]
    assert md5s(["ifilter", "VR", "startswith"], ["exposure", 0, 0]) == [0]
    assert md5s(["ifilter", "r DECam", "startswith"]) == []
    assert md5s(["proposal", "2019A-0(337|338)", "regex"], limit=2) == [0, 1]
    assert md5s(["proposal", "2019a", "icontains"], limit=1) == [0]


def test_pages_and_order():
    assert md5s(limit=4, offset=8) == [8, 9]
    assert md5s(limit=4, offset=12) == []
    assert md5s(limit=0) == list(range(10))
    assert md5s(limit=3, sort="-EXPNUM") == [9, 8, 7]
    assert md5s(limit=4, sort="caldat,md5sum") == [0, 3, 6, 9]


def test_head_and_key_styles():
    payload = {"outfields": ["file:md5sum", "exposure", "EXPNUM", "OBJECT"], "search": [["instrument", "decam"]]}
    head, row = find(ROWS, payload, {"limit": "1"}, prefixed=True)
    assert head["META"]["endpoint"] == "adv_search/find"
    assert head["PARAMETERS"]["default_limit"] == 1000 and head["PARAMETERS"]["json_payload"] == payload
    assert head["HEADER"]["file:exposure"] == "np.float64"
    assert set(row) == {"file:md5sum", "file:exposure", "file:EXPNUM", "file:OBJECT"}
    assert row["file:OBJECT"] is None
    assert find(ROWS, payload, {"count": "Y"})[1] == {"count": 10}


@pytest.mark.parametrize(
    "payload, parameters, code",
    [
        ({"outfields": ["nonsense"], "search": [["instrument", "decam"]]}, {}, "BADFIELD"),
        ({"outfields": ["md5sum"], "search": [["nonsense", 1]]}, {}, "BADFIELD"),
        ({"outfields": ["md5sum"], "search": [["instrument", "deecam"]]}, {}, "MISINSTR"),
        ({"outfields": ["EXPNUM"], "search": [["caldat", "2019-04-01"]]}, {}, "MISINSTR"),
        ({"outfields": ["md5sum"], "search": [["proposal", "(", "regex"]]}, {}, "BADSEARCH"),
        ({"outfields": ["md5sum"], "search": []}, {"limit": "many"}, "BADPARAMETER"),
        ({"outfields": ["md5sum"], "search": []}, {"sort": "nonsense"}, "BADFIELD"),
    ],
)
def test_errors(payload, parameters, code):
    with pytest.raises(QueryError) as caught:
        find(ROWS, payload, parameters)
    assert caught.value.code == code
