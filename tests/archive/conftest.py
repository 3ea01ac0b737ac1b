"""A small archive on loopback, with the behaviours that real sites have shown, good and bad."""

import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from proc_decam_dagster.archive.client import Archive, HttpSite


class LocalArchive:
    """Serves rows and files; tests set its attributes to make it misbehave.

    Attributes
    ----------
    rows : `list` [`dict`]
        What a search goes through.
    files : `dict` [`str`, `bytes`]
        Bodies by md5, for `retrieve`; and by path, for plain sites.
    prefix : `str`
        Put before every key of an answer: ``file:`` or nothing.
    failing : `dict` [`str`, `list` [`int`]]
        Statuses to answer first, by the beginning of the path.
    truncated, invalid : `set` [`str`]
        md5s whose body breaks off, and that `check` calls invalid.
    proprietary : `dict` [`str`, `str`]
        md5 → date.
    largest_page : `int`
        Rows that one answer holds at most.
    unknown_fields : `set` [`str`]
        What it refuses to be asked for.
    """

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.prefix, self.miscount, self.largest_page = "", 0, 10**9
        self.unknown_fields = {"nonsense"}
        self.failing: dict[str, list[int]] = {}
        self.truncated: set[str] = set()
        self.invalid: set[str] = set()
        self.proprietary: dict[str, str] = {}
        self.account = ("", "")
        self.tokens: list[str] = []
        self.requests: list[tuple[str, dict, dict]] = []
        self.served = Counter()
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                archive.answer(self, None)

            def do_POST(self):
                archive.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.site = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.site}/api"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, body: bytes, **values) -> dict:
        """Put a file and its row into the archive; return the row."""
        md5 = values.pop("md5sum", hashlib.md5(body).hexdigest())
        row = {
            "depth": None, "obs_type": "object", "caldat": "2019-04-01", "exposure": 120.0, "md5sum": md5,
            "proc_type": "raw", "seeing": None, "prod_type": "image", "archive_filename": f"/net/archive/mtn/{name}",
            "dateobs_min": "2019-04-02T05:06:18.383", "DEC": "-13:36:22.612", "OBJECT": "B1k",
            "EXPNUM": 845000 + len(self.rows), "FILTER": "VR DECam c0007 6300.0 2600.0", "RA": "14:23:27.640",
            "PROPID": "2019A-0337", "AIRMASS": 1.1, "instrument": "decam", "telescope": "ct4m",
        } | values  # fmt: skip
        self.rows.append(row)
        self.files[md5] = body
        return row

    def answer(self, handler, body) -> None:
        parts = urlsplit(handler.path)
        path, query = parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.requests.append((path, query, dict(handler.headers)))
        for start, statuses in self.failing.items():
            if path.startswith(start) and statuses:
                return send(handler, statuses.pop(0), b"not now", "text/plain")
        if path == "/api/adv_search/find/":
            return self.search(handler, query, body)
        if path == "/api/get_token/":
            if (body["email"], body["password"]) != self.account:
                return send(handler, 200, b"Could not get token from SSO server: No active account", "text/plain")
            self.tokens.append(f"token{len(self.tokens)}")
            return send_json(handler, self.tokens[-1])
        if found := re.fullmatch(r"/api/check/(\w+)/", path):
            return send_json(handler, {"valid": found[1] not in self.invalid})
        if found := re.fullmatch(r"/api/retrieve/(\w+)/", path):
            return self.retrieve(handler, found[1])
        if path in self.files:
            return send(handler, 200, self.files[path])
        return send_json(handler, {"errorMessage": "no such thing"}, 404)

    def search(self, handler, query, body) -> None:
        def fits(row, condition):
            name, *values = condition
            name = "PROPID" if name == "proposal" else name
            value = str(row.get(name))
            if values[-1] == "regex":
                return re.search(values[0], value) is not None
            return values[0] <= value <= values[-1] if len(values) == 2 else value == values[0]

        if unknown := sorted(self.unknown_fields & set(body["outfields"])):
            return send_json(handler, {"errorMessage": f"{unknown[0]} is no field", "errorCode": "BADFIELD"}, 400)
        rows = [r for r in self.rows if all(fits(r, c) for c in body["search"])]
        meta = {"META": {"endpoint": "adv_search/find"}, "PARAMETERS": query, "HEADER": {}}
        if query.get("count") == "Y":
            return send_json(handler, [meta, {"count": len(rows) + self.miscount}])
        rows = sorted(rows, key=lambda r: r[query["sort"]])
        start = int(query["offset"])
        rows = rows[start : start + min(int(query["limit"]), self.largest_page)]
        names = body["outfields"]
        return send_json(handler, [meta, *({self.prefix + n: r.get(n) for n in names} for r in rows)])

    def retrieve(self, handler, md5) -> None:
        token = handler.headers.get("Authorization")
        if md5 in self.proprietary and (token is None or token != (self.tokens or [None])[-1]):
            if token is not None:
                return send_json(handler, {"message": "token has expired"}, 401)
            message = f"This file is not available to the public until {self.proprietary[md5]}"
            return send_json(handler, {"message": message}, 403)
        if md5 not in self.files:
            return send_json(handler, {"errorMessage": "not in archive"}, 404)
        self.served[md5] += 1
        body = self.files[md5]
        if md5 in self.truncated:
            return send(handler, 200, body[: len(body) // 2], length=len(body))
        return send(handler, 200, body)


def send(handler, status, body, kind="application/octet-stream", length=None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    if length is not None:
        handler.close_connection = True


def send_json(handler, answer, status=200) -> None:
    send(handler, status, json.dumps(answer).encode(), "application/json")


@pytest.fixture
def local():
    """An empty archive, listening."""
    archive = LocalArchive()
    yield archive
    archive.close()


@pytest.fixture
def client(local, monkeypatch):
    """A client of it that does not wait long between its attempts."""
    for name in ("NOIRLAB_USER", "NOIRLAB_PASS"):
        monkeypatch.delenv(name, raising=False)
    return Archive(local.url, retries=2, backoff=0.001)


@pytest.fixture
def site(local):
    """The same server as a plain site."""
    return HttpSite(local.site, retries=1, backoff=0.001)
