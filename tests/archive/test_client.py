"""The archive's HTTP interface, against a server on loopback."""

import pytest

from proc_decam_dagster.archive.client import Archive, parse_rows
from proc_decam_dagster.archive.errors import (
    ArchiveError,
    AuthFailed,
    ChecksumMismatch,
    NotFound,
    Proprietary,
    QueryRefused,
    TransferFailed,
    Unavailable,
)

RAWS = [["instrument", "decam"], ["proc_type", "raw"]]


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_pages_until_empty_in_both_key_styles(local, client, prefix):
    rows = [local.add(f"f{i}.fits.fz", b"%d" % i) for i in range(23)]
    local.prefix, local.largest_page = prefix, 7  # the server sends less than it was asked for
    found = client.find(RAWS, ["md5sum", "EXPNUM"], page=10)
    assert [r["md5sum"] for r in found] == sorted(r["md5sum"] for r in rows)
    assert {r["EXPNUM"] for r in found} == {r["EXPNUM"] for r in rows}
    pages = [q for p, q, _ in local.requests if q.get("count") == "N"]
    assert all(q["sort"] == "md5sum" for q in pages) and len(pages) == 5


def test_a_wrong_count_is_an_error(local, client):
    local.add("a.fits.fz", b"a")
    local.miscount = 3
    with pytest.raises(ArchiveError, match="sent 1 rows .* expected the 4"):
        client.find(RAWS, ["md5sum"])


def test_a_server_that_ignores_the_offset_does_not_keep_us_for_ever(local, client):
    local.add("a.fits.fz", b"a")
    body = {"outfields": ["md5sum"], "search": RAWS}
    client.find_page = lambda *a, **k: type(client).find_page(client, body, limit=5)
    with pytest.raises(ArchiveError, match="different ones"):
        client.find(RAWS, ["md5sum"], page=5)


def test_refused_search_is_told_once(local, client):
    with pytest.raises(QueryRefused, match=r"nonsense is no field \(BADFIELD\)"):
        client.find_page({"outfields": ["nonsense"], "search": RAWS})
    assert len(local.requests) == 1


def test_passing_errors_are_retried_and_the_agent_is_named(local, client):
    local.failing["/api/check"] = [500, 503]
    assert client.check("0" * 32) is True
    assert len(local.requests) == 3
    assert local.requests[0][2]["User-Agent"].startswith("proc-decam-dagster/")


def test_lasting_errors_are_told(local, client):
    local.failing["/api/check"] = [500] * 9
    with pytest.raises(Unavailable, match=r"status 500; tried 3 times"):
        client.check("0" * 32)
    with pytest.raises(Unavailable, match="tried 1 times"):
        Archive("http://127.0.0.1:9/api", retries=0).check("0" * 32)


def test_another_site_than_an_archive(local):
    local.files["/api/adv_search/find/"] = b"<html>"
    local.search = lambda handler, query, body: local.answer.__globals__["send"](handler, 200, b"<html>hello")
    with pytest.raises(ArchiveError, match="no list of rows"):
        Archive(local.url).count(RAWS)


def test_real_answers_of_the_archive(shared_data):
    names: dict = {}
    exec((shared_data / "archive" / "astroquery_noirlab_expected.txt").read_text(), names)
    rows = parse_rows(names["query_file_meta_raw"])
    assert len(rows) == 3
    assert all({"md5sum", "archive_filename", "instrument", "proc_type"} <= set(r) for r in rows)
    assert rows[1]["md5sum"] == "0001e5a5bcf039ebf0c53a6da32e8888"
    assert [r["md5sum"][:7] for r in parse_rows(names["query_file_meta_raw_minimal"])][0] == "0000004"
    hdus = parse_rows(names["query_hdu_metadata_raw"])
    assert hdus[0]["CD1_1"] == pytest.approx(-1.8249413473e-7) and hdus[0]["AIRMASS"] == 1.04
    bare = [{"META": {}, "HEADER": {"md5sum": "str"}}, {"md5sum": "a", "depth": "None"}]
    assert parse_rows(bare) == [{"md5sum": "a", "depth": None}]
    assert parse_rows([{"META": {}}, {"count": 4}]) == []


def test_retrieve_verifies_and_renames(local, client, tmp_path):
    row = local.add("a.fits.fz", b"x" * 3_000_000)
    arrived = client.retrieve(row["md5sum"], tmp_path / "a")
    assert arrived.bytes == 3_000_000 and arrived.md5 == row["md5sum"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_nothing_is_left_of_a_file_that_did_not_verify(local, client, tmp_path):
    wrong = local.add("a.fits.fz", b"other bytes", md5sum="0" * 32)
    with pytest.raises(ChecksumMismatch, match="has md5"):
        client.retrieve(wrong["md5sum"], tmp_path / "a")
    cut = local.add("b.fits.fz", b"y" * 100_000)
    local.truncated.add(cut["md5sum"])
    with pytest.raises(TransferFailed, match="broke off"):
        client.retrieve(cut["md5sum"], tmp_path / "b")
    assert local.served[cut["md5sum"]] == 3
    with pytest.raises(NotFound, match="not in the archive"):
        client.retrieve("1" * 32, tmp_path / "c")
    with pytest.raises(NotFound, match="no md5sum"):
        client.retrieve("../etc", tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_a_proprietary_file_wants_an_account(local, client, tmp_path):
    row = local.add("a.fits.fz", b"secret")
    local.proprietary[row["md5sum"]] = "2096-08-12"
    with pytest.raises(Proprietary, match="proprietary until 2096-08-12.*NOIRLAB_USER") as caught:
        client.retrieve(row["md5sum"], tmp_path / "a")
    assert caught.value.until == "2096-08-12"
    local.account = ("me@x.org", "pass")
    member = Archive(local.url, "me@x.org", "pass", backoff=0.001)
    member.retrieve(row["md5sum"], tmp_path / "a")
    assert local.requests[-1][2]["Authorization"] == "token0"  # bare: no "Bearer"
    local.tokens.append("newer")  # ours is out of date now: it is replaced once
    member.retrieve(row["md5sum"], tmp_path / "a")
    assert local.requests[-1][2]["Authorization"] == "token2"


def test_a_bad_login_is_named(local):
    with pytest.raises(AuthFailed, match="does not accept the account me .Could not get token"):
        Archive(local.url, "me", "wrong").token()
    assert Archive(local.url, "", "").token() == ""
