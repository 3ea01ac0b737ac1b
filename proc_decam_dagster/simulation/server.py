"""A local stand-in for the archive: it serves a simulated survey with the real API's paths, answers and oddities."""

import contextlib
import json
import os
import secrets
import socket
import struct
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.simulation import query
from proc_decam_dagster.simulation.holdings import Faults, Holdings
from proc_decam_dagster.simulation.survey import FILES, HELD_BACK

BLOCK = 1 << 20
USER = ("observer@example.org", "simulation")
"""Login that `get_token` knows."""
_STATIC = {"lsst_refcats": "refcats", "decam_bpm": "bpm"}


class ArchiveServer:
    """Serves a simulated survey on the loopback interface, or only the rows of a table.

    Use as a context manager, or call `start` and `stop`.

    Parameters
    ----------
    directory : path-like
        A survey of `simulate_survey`; or an ECSV exposure table, whose rows are then found but not retrieved.
    port : `int`, optional
        0: any free one.
    host : `str`, optional
    prefixed : `bool`, optional
        Write keys as ``file:md5sum``.
    hold_back : iterable of `str`, optional
        Nights that are not shown until they are released.
    proprietary : iterable of `str`, optional
        Nights whose files only a token opens.

    Attributes
    ----------
    faults : `Faults`
    requests : `list` [`str`]
        Method and path of every request so far.
    """

    def __init__(
        self, directory: str | os.PathLike, port: int = 0, host: str = "127.0.0.1", *, prefixed: bool = False,
        hold_back: Iterable[str] | None = None, proprietary: Iterable[str] = (), release_date: str = "2096-08-12",
    ) -> None:  # fmt: skip
        self.directory = Path(directory)
        if self.directory.is_dir():
            table, held = self.directory / FILES, self.directory / HELD_BACK
        else:
            table, held = self.directory, None
        if not table.is_file():
            raise SurveyError(f"{table} does not exist", "a simulated survey or an exposure table", "simulate one")
        self.holdings = Holdings(table, held)
        if hold_back is not None:
            self.holdings.hold_back(hold_back)
        self.prefixed, self.proprietary, self.release_date = prefixed, set(proprietary), release_date
        self.faults, self.requests, self.tokens = Faults(), [], set()
        self._server = ThreadingHTTPServer((host, port), _Handler)
        self._server.daemon_threads = True
        self._server.archive = self
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return self._server.server_address[1]

    @property
    def root(self) -> str:
        """Address without the API's part: reference catalogues and masks lie below it."""
        return f"http://{self._server.server_address[0]}:{self.port}"

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"{self.root}/api"

    @property
    def refcats_url(self) -> str:
        """Address of the reference catalogues."""
        return f"{self.root}/lsst_refcats"

    @property
    def masks_url(self) -> str:
        """Address of the bad-pixel masks."""
        return f"{self.root}/decam_bpm"

    def start(self) -> "ArchiveServer":
        """Serve in a thread."""
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and close the socket."""
        if self._thread:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def serve_forever(self) -> None:
        """Serve until interrupted."""
        self._server.serve_forever()

    def __enter__(self) -> "ArchiveServer":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def release(self, night: str) -> None:
        """Show a night that was held back; deleting its line in ``archive/held_back.txt`` does the same."""
        self.holdings.hold_back(self.holdings.held_back() - {night})

    def row_of(self, md5: str) -> dict | None:
        """Return the row of a file that is shown."""
        return next((row for row in self.holdings.rows() if row["md5sum"] == md5), None)

    def path_of(self, row: dict) -> Path | None:
        """Return the file of a row, if there is one."""
        path = self.directory / "archive" / str(row.get("path") or os.path.basename(row["archive_filename"]))
        return path if path.is_file() else None


def serve_table(table: str | os.PathLike, **options) -> ArchiveServer:
    """Return a server of the rows of an exposure table (ECSV), without files."""
    return ArchiveServer(table, **options)


class _Handler(BaseHTTPRequestHandler):
    """Answers requests as the archive does. No Range, no keep-alive."""

    server_version = "SimulatedArchive/1"

    @property
    def archive(self) -> ArchiveServer:
        return self.server.archive

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self._dispatch("GET")

    def do_HEAD(self) -> None:
        self._dispatch("HEAD")

    def do_POST(self) -> None:
        self._dispatch("POST")

    def _dispatch(self, method: str) -> None:
        address = urlsplit(self.path)
        path, parameters = unquote(address.path), {k: v[-1] for k, v in parse_qs(address.query).items()}
        self.archive.requests.append(f"{method} {self.path}")
        # The body is read whatever the answer, or the client may see a broken connection instead of it.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if method == "POST" else b""
        try:
            if self.archive.faults.error(path):
                return self._text("Internal Server Error", 500)
            match [part for part in path.split("/") if part]:
                case ["api", "adv_search", "find"] if method == "POST":
                    self._find(body, parameters)
                case ["api", "get_token"] if method == "POST":
                    self._token(body)
                case ["api", "retrieve", md5]:
                    self._retrieve(md5, parameters)
                case ["api", "check", md5]:
                    row = self.archive.row_of(md5)
                    self._json({"valid": row is not None, "md5sum": md5} if row else {"valid": False})
                case ["api", "header", md5]:
                    self._header(md5, parameters)
                case ["api", "version"]:
                    self._json(7.0)
                case [root, *rest] if root in _STATIC:
                    self._static(_STATIC[root], rest)
                case _:
                    self._json({"detail": "Not found."}, 404)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _find(self, body: bytes, parameters: dict[str, str]) -> None:
        try:
            answer = query.find(
                self.archive.holdings.rows(), json.loads(body or b"{}"), parameters, prefixed=self.archive.prefixed
            )
        except json.JSONDecodeError as error:
            return self._json({"errorMessage": f"Payload is not JSON: {error}", "errorCode": "BADPAYLOAD"}, 400)
        except query.QueryError as error:
            return self._json({"errorMessage": error.message, "errorCode": error.code, "traceback": ""}, 400)
        self._json(answer)

    def _token(self, body: bytes) -> None:
        try:
            login = json.loads(body)
            good = (login["email"], login["password"]) == USER
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            reason = "No active account found with the given credentials"
            return self._text(f"Could not get token from SSO server: {reason}", 401)
        token = secrets.token_urlsafe(24)
        self.archive.tokens.add(token)
        self._json(token)

    def _retrieve(self, md5: str, parameters: dict[str, str]) -> None:
        archive = self.archive
        row = archive.row_of(md5)
        path = archive.path_of(row) if row else None
        if path is None:
            return self._json({"message": f"File with md5sum {md5} not found"}, 404)
        night = str(row["caldat"]).replace("-", "")
        if night in archive.proprietary and self.headers.get("Authorization") not in archive.tokens:
            until = archive.release_date
            return self._json({"message": f"This file is not available to the public until {until}"}, 403)
        spans = [(0, path.stat().st_size)]
        fault = archive.faults.seeded.next(md5) if archive.faults.seeded else "ok"
        if self._answered(fault, md5):
            return
        if "hdus" in parameters:
            try:
                spans = _hdu_spans(path, [int(n) for n in parameters["hdus"].split(",")])
            except (ValueError, IndexError):
                return self._json({"message": f"No HDUs {parameters['hdus']} in file {md5}"}, 400)
        if archive.faults.truncate(md5):
            fault = "truncate"
        if archive.faults.corrupt(md5):
            fault = "corrupt"
        self._stream(path, spans, fault)

    def _answered(self, fault: str, md5: str) -> bool:
        """Send the answer that stands in the place of a file, if it is one."""
        match fault:
            case "500":
                self._text("Internal Server Error", 500)
            case "503":
                self._text("Service Unavailable", 503, {"Retry-After": "1"})
            case "403":
                self._json({"message": "Forbidden"}, 403)
            case "404":
                self._json({"message": f"File with md5sum {md5} not found"}, 404)
            case "proprietary":
                until = self.archive.release_date
                self._json({"message": f"This file is not available to the public until {until}"}, 403)
            case _:
                return False
        return True

    def _header(self, md5: str, parameters: dict[str, str]) -> None:
        from astropy.io import fits

        row = self.archive.row_of(md5)
        path = self.archive.path_of(row) if row else None
        if path is None:
            return self._json({"message": f"File with md5sum {md5} not found"}, 404)
        with fits.open(path, disable_image_compression=True) as file:
            headers = [hdu.header for hdu in file]
        if parameters.get("format") == "json":
            return self._json([{k: h[k] for k in h if k not in ("COMMENT", "HISTORY", "")} for h in headers])
        text = "\n\n".join(h.tostring("\n").replace("&", "&amp;").replace("<", "&lt;") for h in headers)
        self._send(f"<html><body><pre>{text}</pre></body></html>".encode(), "text/html")

    def _static(self, folder: str, parts: list[str]) -> None:
        base = (self.archive.directory / folder).resolve()
        path = base.joinpath(*parts).resolve()
        if not path.is_relative_to(base) or not path.is_file():
            return self._text("Not Found", 404)
        self._stream(path, [(0, path.stat().st_size)])

    def _stream(self, path: Path, spans: list[tuple[int, int]], fault: str = "ok") -> None:
        """Send pieces of a file, block by block."""
        length = sum(end - start for start, end in spans)
        told = {"longer": length + 4096, "shorter": length - length // 3}.get(fault, length)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(told))
        self.send_header("Content-Disposition", f'attachment; filename="{path.name}"')
        self.end_headers()
        if self.command == "HEAD":
            return
        left = length // 2 if fault in ("truncate", "reset", "stall") else length
        corrupt = fault == "corrupt"
        with open(path, "rb") as file:
            for start, end in spans:
                file.seek(start)
                position = start
                while position < end and left > 0:
                    block = file.read(min(BLOCK, end - position, left))
                    position, left = position + len(block), left - len(block)
                    if corrupt:
                        block, corrupt = block[:-1] + bytes([block[-1] ^ 0xFF]), False
                    self.wfile.write(block)
        if fault == "reset":
            # Closed with something unsent and no patience: the other side sees a reset, not an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif fault == "stall":
            self._hold(self.archive.faults.seeded.stall_seconds)
        self.close_connection = True

    def _hold(self, seconds: float) -> None:
        """Keep the connection and send nothing, as long as the other side waits."""
        with contextlib.suppress(OSError):
            self.connection.settimeout(seconds)
            self.connection.recv(1)

    def _json(self, value, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _text(self, text: str, status: int, headers: dict[str, str] | None = None) -> None:
        self._send(text.encode(), "text/plain", status, headers)

    def _send(self, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _hdu_spans(path: Path, numbers: list[int]) -> list[tuple[int, int]]:
    """Return the bytes of HDUs, the primary one always first."""
    from astropy.io import fits

    with fits.open(path, disable_image_compression=True) as file:
        spans = []
        for number in dict.fromkeys([0, *numbers]):
            info = file[number].fileinfo()
            spans.append((info["hdrLoc"], info["datLoc"] + info["datSpan"]))
    return spans
