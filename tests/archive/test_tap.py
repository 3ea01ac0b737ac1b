"""Rows of TAP services: all of a box or an error, whatever the service does."""

import numpy as np
import pytest
from archive.tap_server import LocalTap
from astropy.table import Table

from proc_decam_dagster.archive.errors import QueryRefused, TransferFailed, Unavailable
from proc_decam_dagster.archive.tap import SkyBox, TapSite, TapTable

BOX = SkyBox(10.0, 12.0, -6.0, -4.0)


@pytest.fixture
def tap():
    rng = np.random.default_rng(1)
    n = 2000
    table = Table({"source_id": np.arange(n), "ra": rng.uniform(9, 13, n), "dec": rng.uniform(-7, -3, n)})
    table["kind"] = np.where(table["source_id"] % 5 == 0, "VARIABLE", "CONSTANT")
    with LocalTap(sky__stars=table) as server:
        server.table = TapTable(server.url, "sky.stars", ("source_id", "ra", "dec", "kind"))
        inside = (table["ra"] >= 10) & (table["ra"] < 12) & (table["dec"] >= -6) & (table["dec"] < -4)
        server.inside = set(table["source_id"][inside].tolist())
        yield server


def site(tap, **how) -> TapSite:
    return TapSite(tap.url, **({"retries": 1, "backoff": 0.001} | how))


def ids(rows: Table) -> list[int]:
    return sorted(rows["source_id"].tolist())


def test_all_rows_of_a_box_in_one_query(tap):
    rows = site(tap).rows(tap.table, BOX)
    assert ids(rows) == sorted(tap.inside) and len(tap.queries) == 2
    assert set(rows["kind"]) == {"VARIABLE", "CONSTANT"} and rows["ra"].dtype == float


@pytest.mark.parametrize("limit", ["row_limit", "silent_limit"])
def test_a_box_is_divided_until_no_answer_is_cut_short(tap, limit):
    setattr(tap, limit, 100)
    rows = site(tap).rows(tap.table, BOX)
    assert ids(rows) == sorted(tap.inside)  # each once: boxes side by side share no source


def test_a_full_box_is_divided_before_it_is_asked_for(tap):
    assert ids(site(tap).rows(tap.table, BOX, most=50)) == sorted(tap.inside)
    asked = [q for q in tap.queries if "COUNT" not in q]
    assert len(asked) > 8


def test_a_service_that_never_sends_all_is_an_error(tap):
    tap.silent_limit = 0
    with pytest.raises(TransferFailed, match="sent 0 rows of sky.stars .*expected the 1 that it counts"):
        site(tap).rows(tap.table, BOX)


def test_a_condition_and_an_empty_box(tap):
    table = TapTable(tap.url, "sky.stars", ("source_id", "ra"), condition="source_id < 100")
    assert ids(site(tap).rows(table, BOX)) == sorted(i for i in tap.inside if i < 100)
    assert not len(site(tap).rows(table, SkyBox(100.0, 101.0, 0.0, 1.0)))


def test_what_services_refuse(tap):
    with pytest.raises(QueryRefused, match="function CIRCLE is not supported"):
        site(tap).query("SELECT ra FROM sky.stars WHERE 1=CONTAINS(POINT('ICRS',ra,dec),CIRCLE('ICRS',1,2,3))")
    with pytest.raises(QueryRefused, match="unknown column pmra"):
        site(tap).rows(TapTable(tap.url, "sky.stars", ("source_id", "pmra")), BOX)
    with pytest.raises(QueryRefused, match="404"):
        TapSite(tap.url + "/nowhere", retries=0).query("SELECT ra FROM sky.stars")


def test_passing_failures_are_tried_again(tap):
    tap.failing = [503]
    assert ids(site(tap).rows(tap.table, BOX)) == sorted(tap.inside)
    tap.failing = [500] * 5
    with pytest.raises(Unavailable, match="tried 2 times"):
        site(tap).rows(tap.table, BOX)
    with pytest.raises(Unavailable):
        TapSite("http://127.0.0.1:9/tap", retries=0).query("SELECT 1")


def test_an_answer_that_breaks_off_is_never_taken(tap):
    tap.broken = 1
    assert ids(site(tap).rows(tap.table, BOX)) == sorted(tap.inside)
    tap.broken = 9
    with pytest.raises(TransferFailed, match="cannot be read"):
        site(tap).rows(tap.table, BOX)


def test_an_error_told_after_the_rows(tap):
    tap.late_error = True
    with pytest.raises(QueryRefused, match="disk full"):
        site(tap).rows(tap.table, BOX)


def test_boxes_are_halved_across_their_longer_side():
    assert SkyBox(0, 4, 0, 2).halves() == (SkyBox(0, 2, 0, 2), SkyBox(2, 4, 0, 2))
    assert SkyBox(0, 4, 79, 81).halves() == (SkyBox(0, 4, 79, 80), SkyBox(0, 4, 80, 81))
    assert TapTable("u", "t", ("id",)).where(SkyBox(0, 360, 89, 90)).endswith("dec <= 90.000000000")
