"""A TAP service on loopback: plain comparisons only, as Data Lab has them; it can be made to cut answers short."""

import re
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs

import numpy as np
from astropy.table import Table

REFUSED = ("POINT", "CIRCLE", "CONTAINS", "POLYGON", "BOX", "DISTANCE", "INTERSECTS", "BETWEEN")
_QUERY = re.compile(r"SELECT (?P<columns>.+?) FROM (?P<table>[\w.]+)(?: WHERE (?P<where>.+))?", re.I | re.S)
_COMPARED = re.compile(r"(\w+)\s*(>=|<=|<|>|=)\s*(-?[\d.]+(?:e-?\d+)?)", re.I)


class LocalTap:
    """Serves tables by name; tests set its attributes to make it misbehave.

    Attributes
    ----------
    tables : `dict` [`str`, `astropy.table.Table`]
    row_limit : `int`
        Rows that an answer holds at most; it says OVERFLOW then.
    silent_limit : `int`
        The same, but it says nothing.
    failing : `list` [`int`]
        Statuses to answer first.
    broken : `int`
        Answers still to break off half-way.
    late_error : `bool`
        Say ERROR after the rows.
    queries : `list` [`str`]
    """

    def __init__(self, **tables: Table) -> None:
        self.tables = {name.replace("__", ".").lower(): table for name, table in tables.items()}
        self.row_limit = self.silent_limit = 10**9
        self.failing: list[int] = []
        self.broken, self.late_error = 0, False
        self.queries: list[str] = []
        self._lock = threading.Lock()
        tap = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                with tap._lock:
                    status, answer = tap.answer(self.path, {k: v[0] for k, v in parse_qs(body).items()})
                self.send_response(status)
                self.send_header("Content-Type", "application/x-votable+xml")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/tap"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> "LocalTap":
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, bytes]:
        if path != "/tap/sync":
            return 404, b"no such thing"
        if self.failing:
            return self.failing.pop(0), b"not now"
        query = form.get("QUERY", "")
        self.queries.append(query)
        words = {word.upper() for word in re.findall(r"\w+", query)}
        if refused := sorted(words & set(REFUSED)):
            return 400, error(f"function {refused[0]} is not supported")
        parsed = _QUERY.fullmatch(query.strip())
        table = self.tables.get(parsed["table"].lower()) if parsed else None
        if table is None:
            return 400, error(f"cannot parse, or unknown table: {query}")
        keep = np.ones(len(table), bool)
        names = {name.lower(): name for name in table.colnames}
        for condition in re.split(r"\s+AND\s+", parsed["where"] or ""):
            found = _COMPARED.fullmatch(condition.strip())
            if condition and (found is None or found[1].lower() not in names):
                return 400, error(f"cannot parse condition {condition}")
            if found:
                values, limit = np.asarray(table[names[found[1].lower()]]), float(found[3])
                keep &= {">=": values >= limit, "<=": values <= limit, "<": values < limit, ">": values > limit,
                         "=": values == limit}[found[2]]  # fmt: skip
        if parsed["columns"].upper().startswith("COUNT(*)"):
            return 200, votable(Table({"n": [int(keep.sum())]}), "OK")
        wanted = [c.strip().lower() for c in parsed["columns"].split(",")]
        if unknown := [c for c in wanted if c not in names]:
            return 400, error(f"unknown column {unknown[0]}")
        rows = table[keep][[names[c] for c in wanted]]
        status = "OVERFLOW" if len(rows) > self.row_limit else "OK"
        body = votable(rows[: min(self.row_limit, self.silent_limit)], status)
        if self.late_error:
            body = body.replace(b"</RESOURCE>", b'<INFO name="QUERY_STATUS" value="ERROR">disk full</INFO></RESOURCE>')
        if self.broken:
            self.broken -= 1
            body = body[: len(body) // 2]
        return 200, body


def votable(rows: Table, status: str) -> bytes:
    """Return a VOTable as services write it: the status after the rows if there were too many of them."""
    from astropy.io.votable import from_table

    buffer = BytesIO()
    from_table(rows).to_xml(buffer)
    text = buffer.getvalue()
    first = b'<INFO name="QUERY_STATUS" value="OK"/>'
    text = re.sub(rb"(<RESOURCE[^>]*>)", rb"\1" + first, text, count=1)
    if status == "OVERFLOW":
        last = b'<INFO name="QUERY_STATUS" value="OVERFLOW"/>'
        text = text.replace(b"</RESOURCE>", last + b"</RESOURCE>")
    return text


def error(message: str) -> bytes:
    """Return a VOTable that tells an error."""
    return (
        '<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="ERROR">{escape(message)}</INFO>'
        "</RESOURCE></VOTABLE>"
    ).encode()
