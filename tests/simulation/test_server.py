"""The archive server over HTTP."""

import hashlib
import shutil

import fitsio
import pytest
import requests
from astropy.io import fits
from astropy.table import Table

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.simulation.holdings import Holdings
from proc_decam_dagster.simulation.server import USER, ArchiveServer, serve_table

SEARCH = {"outfields": ["md5sum", "obs_type", "caldat", "OBJECT", "depth"], "search": [["instrument", "decam"]]}


@pytest.fixture(scope="module")
def server(survey):
    with ArchiveServer(survey) as server:
        yield server


@pytest.fixture(scope="module")
def md5(server):
    payload = {"outfields": ["md5sum"], "search": [["instrument", "decam"], ["obs_type", "zero"]]}
    return post(server, "adv_search/find/", payload).json()[1]["md5sum"]


def post(server, path, payload, **parameters):
    return requests.post(f"{server.url}/{path}", json=payload, params=parameters, timeout=20)


def test_find(server):
    answer = post(server, "adv_search/find/", SEARCH, rectype="file", limit=2, offset=0, sort="md5sum")
    assert answer.status_code == 200
    head, *rows = answer.json()
    assert len(rows) == 2 and rows[0]["md5sum"] < rows[1]["md5sum"]
    assert head["PARAMETERS"]["last"] == 2 and rows[0]["depth"] is None


def test_errors_are_json(server):
    answer = post(server, "adv_search/find/", {"outfields": ["nonsense"], "search": []})
    assert answer.status_code == 400 and answer.json()["errorCode"] == "BADFIELD"
    answer = requests.post(f"{server.url}/adv_search/find/", data=b"{", timeout=20)
    assert answer.json()["errorCode"] == "BADPAYLOAD"
    assert requests.get(f"{server.url}/nowhere/", timeout=20).status_code == 404


def test_retrieve_gives_the_bytes_and_ignores_range(server, md5):
    answer = requests.get(f"{server.url}/retrieve/{md5}/", headers={"Range": "bytes=0-9"}, timeout=20)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert hashlib.md5(answer.content).hexdigest() == md5
    assert requests.get(f"{server.url}/retrieve/{'0' * 32}/", timeout=20).status_code == 404


def test_retrieve_single_hdus(server, md5, tmp_path):
    path = tmp_path / "part.fits.fz"
    path.write_bytes(requests.get(f"{server.url}/retrieve/{md5}/?hdus=0,1", timeout=20).content)
    with fits.open(path) as part:
        assert len(part) == 2 and part[1].header["CCDNUM"]
        part[1].data[:10].sum()
    assert requests.get(f"{server.url}/retrieve/{md5}/?hdus=0,99", timeout=20).status_code == 400


def test_header_and_check(server, md5):
    assert "EXPNUM" in requests.get(f"{server.url}/header/{md5}/", timeout=20).text
    header = requests.get(f"{server.url}/header/{md5}/?format=json", timeout=20).json()
    assert header[0]["OBSTYPE"] == "zero" and {h.get("CCDNUM") for h in header} >= {35}
    assert requests.get(f"{server.url}/check/{md5}/", timeout=20).json()["valid"] is True
    assert requests.get(f"{server.url}/check/{'0' * 32}/", timeout=20).json()["valid"] is False


def test_shards_and_masks(server):
    for base, index in (
        (server.refcats_url, "GAIA_DR3/gaia_dr3"),
        (server.refcats_url, "ps1/ps1_pv3_3pi_20170110"),
        (server.masks_url, "cp"),
        (server.masks_url, "des"),
    ):
        names = requests.get(f"{base}/{index}/index.dat", timeout=20).text.split()
        assert requests.get(f"{base}/{index}/{names[0]}", timeout=20).content[:6] == b"SIMPLE"
    assert requests.get(f"{server.masks_url}/%2e%2e/truth/plan.json", timeout=20).status_code == 404


def test_proprietary_files_need_a_token(survey, md5):
    night = Table.read(survey / "archive" / "files.ecsv", format="ascii.ecsv")["caldat"][0].replace("-", "")
    with ArchiveServer(survey, proprietary=[night]) as server:
        address = f"{server.url}/retrieve/{md5}/"
        answer = requests.get(address, timeout=20)
        assert answer.status_code == 403 and "not available to the public until" in answer.json()["message"]
        refused = post(server, "get_token/", {"email": USER[0], "password": "wrong"})
        assert refused.status_code != 200 and refused.text.startswith("Could not get token from SSO server")
        token = post(server, "get_token/", dict(zip(("email", "password"), USER))).json()
        assert isinstance(token, str)
        assert requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=20).status_code == 403
        assert requests.get(address, headers={"Authorization": token}, timeout=20).status_code == 200


def test_faults_are_used_up(server, md5):
    address = f"{server.url}/retrieve/{md5}/"
    server.faults.errors["/api/retrieve"] = 2
    assert [requests.get(address, timeout=20).status_code for _ in range(3)] == [500, 500, 200]
    server.faults.corrupted[md5] = 1
    assert hashlib.md5(requests.get(address, timeout=20).content).hexdigest() != md5
    server.faults.truncated[md5] = 1
    with pytest.raises(requests.exceptions.RequestException):
        requests.get(address, timeout=20)
    assert hashlib.md5(requests.get(address, timeout=20).content).hexdigest() == md5


def test_new_nights_appear(survey, tmp_path):
    shutil.copytree(survey, tmp_path / "copy", ignore=shutil.ignore_patterns("*.fz", "refcats"))
    root = tmp_path / "copy"
    from proc_decam_dagster.simulation.survey import FILES, add_night, read_plan

    first = Table.read(root / FILES, format="ascii.ecsv")["caldat"][0].replace("-", "")
    with ArchiveServer(root, hold_back=[first], prefixed=True) as server:

        def nights():
            found = post(server, "adv_search/find/", SEARCH).json()[1:]
            return sorted({row["file:caldat"].replace("-", "") for row in found})

        assert nights() == []
        server.release(first)
        assert nights() == [first]
        new = add_night(root, jobs=1)
        assert nights() == [first, new]
        rows = [r for r in server.holdings.rows() if r["obs_type"] == "object"]
        row = next(r for r in rows if r["caldat"].replace("-", "") == new)
        assert "N4" in fitsio.FITS(str(server.path_of(row)))
        assert read_plan(root)[1][-1] == (new, "science")
    with pytest.raises(SurveyError, match="already"):
        add_night(root, night=new)
    assert len(Table.read(root / "truth" / "exposures.ecsv", format="ascii.ecsv")) == 6


def test_real_exposure_table_is_served(shared_data):
    with serve_table(shared_data / "archive" / "exposures_object_raw.ecsv") as server:
        payload = {
            "outfields": ["md5sum", "OBJECT", "seeing", "EXPNUM"],
            "search": [["instrument", "decam"], ["proc_type", "raw"], ["caldat", "2019-04-01", "2019-04-01"]],
        }
        head, *rows = post(server, "adv_search/find/", payload, limit=0, sort="EXPNUM").json()
        assert len(rows) > 50 and rows[0]["EXPNUM"] == 845288
        assert rows[0]["OBJECT"] is None and rows[0]["seeing"] is None
        assert requests.get(f"{server.url}/retrieve/{rows[0]['md5sum']}/", timeout=20).status_code == 404


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(SurveyError, match="does not exist"):
        ArchiveServer(tmp_path)
    table = tmp_path / "table.ecsv"
    Table({"md5sum": ["a"], "caldat": ["2019-01-01"]}).write(table, format="ascii.ecsv")
    with pytest.raises(SurveyError, match="bare table"):
        Holdings(table).hold_back(["20190101"])
