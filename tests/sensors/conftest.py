"""Servers of this machine that messages are sent to."""

import json
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest


@contextmanager
def serving(server):
    """Serve in a thread."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web():
    """An HTTP server that keeps the bodies that it is sent; paths with `broken` are answered 500."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.got.append((self.path, body))
            self.send_response(500 if "broken" in self.path else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.url = [], f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield server


@pytest.fixture
def post():
    """A mail server without TLS that keeps what it is sent."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            say = lambda text: self.wfile.write(text.encode() + b"\r\n")  # noqa: E731
            say("220 here")
            while line := self.rfile.readline():
                self.server.got.append(line)
                command = line[:4].upper()
                if command == b"EHLO":
                    say("250 here")
                elif command == b"DATA":
                    say("354 go on")
                    while (part := self.rfile.readline()) != b".\r\n":
                        self.server.got.append(part)
                    say("250 taken")
                elif command == b"QUIT":
                    say("221 bye")
                    return
                else:
                    say("250 fine")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.got, server.address = [], f"127.0.0.1:{server.server_address[1]}"
    with serving(server):
        yield server
