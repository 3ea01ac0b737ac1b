"""One file over a socket that misbehaves: every way ends in a typed error, and nothing is left on disk."""

import contextlib
import socket
import threading
import time
from email.utils import formatdate

import pytest

from proc_decam_dagster.archive import transfer
from proc_decam_dagster.archive.client import Archive, HttpSite
from proc_decam_dagster.archive.errors import Cancelled, TransferFailed, Unavailable

BIG = 3 * transfer.CHUNK


@pytest.fixture
def raw():
    """A server that sends what a test tells it: ``raw(connection)``; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    behaviour = {}

    def answer(connection):
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            behaviour["do"](connection)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()

    def tell(function) -> HttpSite:
        behaviour["do"] = function
        return HttpSite(f"http://127.0.0.1:{listener.getsockname()[1]}", retries=1, backoff=0.001, timeout=(2, 0.3))

    yield tell
    listener.close()


def head(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("length", [1000, BIG])
def test_a_silent_server_is_given_up(raw, tmp_path, length):
    def stall(connection):
        connection.sendall(head(length) + b"x" * (length // 2))
        time.sleep(1)

    with pytest.raises(TransferFailed, match="stalled|timed out"):
        raw(stall).fetch("file", tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_server_that_trickles_is_given_up(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "SLOW_SECONDS", 0.3)

    def trickle(connection):
        connection.sendall(head(BIG))
        for _ in range(40):
            connection.sendall(b"x")
            time.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(TransferFailed, match="stalled: .* bytes in"):
        raw(trickle).fetch("file", tmp_path / "a")
    assert time.monotonic() - start < 5 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("sent", [0, 10, transfer.CHUNK + 7, BIG - 1])
def test_a_body_that_ends_early(raw, tmp_path, sent):
    with pytest.raises(TransferFailed, match=f"broke off.*{sent}"):
        raw(lambda c: c.sendall(head(BIG) + b"x" * sent)).fetch("file", tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_an_absurd_length_says_nothing_of_the_disk(raw, tmp_path):
    with pytest.raises(TransferFailed, match="announced with"):
        raw(lambda c: c.sendall(head(10**15) + b"x")).fetch("file", tmp_path / "a")


def test_chunked_and_compressed_bodies_are_read_as_well(raw, tmp_path):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n"
    arrived = raw(lambda c: c.sendall(chunked)).fetch("file", tmp_path / "a")
    assert arrived.bytes == 15 and (tmp_path / "a").read_bytes() == b"hello" * 3


def test_a_stopped_client_ends_a_transfer_that_hangs(raw, tmp_path):
    def stall(connection):
        connection.sendall(head(BIG) + b"x" * 100)
        time.sleep(2)

    site = raw(stall)
    site.timeout = (2, 60)
    threading.Timer(0.3, site.stop).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        site.fetch("file", tmp_path / "a")
    assert time.monotonic() - start < 1.5 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["1", formatdate(time.time() + 3600 * 24, usegmt=True)], ids=["seconds", "date"])
def test_retry_after_is_honoured(raw, text):
    answers = [f"HTTP/1.1 503 Busy\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n", head(2).decode() + "ok"]
    site = raw(lambda c: c.sendall(answers.pop(0).encode()))
    start = time.monotonic()
    if text == "1":
        assert site.text("file") == "ok" and time.monotonic() - start >= 1.0
    else:  # a day is not waited for
        with pytest.raises(Unavailable, match="asks not to be asked again for 14[0-9][0-9] minutes"):
            site.text("file")


def test_two_processes_do_not_fetch_the_same_file(tmp_path):
    """Two that hold the lock file: the second one waits for the file, not for others."""
    first, second = transfer.FolderLock(tmp_path), transfer.FolderLock(tmp_path)
    stop = threading.Event()
    with first.hold("a" * 32, stop.is_set), second.hold("b" * 32, stop.is_set):
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(Cancelled), second.hold("a" * 32, stop.is_set, pause=0.02):
            pass
    with second.hold("a" * 32, lambda: True):
        pass
    first.close()
    second.close()


def test_credentials_from_a_file(local, tmp_path, monkeypatch):
    from proc_decam_dagster.archive.credentials import ends_at
    from proc_decam_dagster.archive.errors import AuthFailed
    from proc_decam_dagster.errors import SurveyError

    for name in ("NOIRLAB_USER", "NOIRLAB_PASS", "NOIRLAB_TOKEN", "NOIRLAB_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Archive(local.url).token() == ""
    path = tmp_path / "proc-decam" / "noirlab.json"
    path.parent.mkdir()
    path.write_text('{"user": "me@x.org", "password": "s3cret"}')
    path.chmod(0o644)
    with pytest.raises(SurveyError, match="can be read by others; expected a file of mode 0600; chmod 600"):
        Archive(local.url)
    path.chmod(0o600)
    local.account = ("me@x.org", "s3cret")
    archive = Archive(local.url)
    assert archive.token() == "token0" == archive.token()
    archive._token_ends = 0.0  # it has expired
    assert archive.token() == "token1"
    assert "s3cret" not in repr(vars(archive)) and "s3cret" not in repr(archive._credentials)
    local.account = ("me@x.org", "other")
    with pytest.raises(AuthFailed) as caught:
        archive.token(fresh=True)
    assert "s3cret" not in str(caught.value)
    # A bare token is read again when it is not accepted any more: somebody may have renewed it.
    path.write_text('{"token": "old"}')
    archive = Archive(local.url)
    assert archive.token() == "old"
    path.write_text('{"token": "new"}')
    assert archive.token(fresh=True) == "new"
    with pytest.raises(AuthFailed, match="is not accepted any more"):
        archive.token(fresh=True)
    path.write_text("not json s3cret")
    with pytest.raises(SurveyError, match="cannot be read as JSON") as caught:
        Archive(local.url)
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("NOIRLAB_AUTH_FILE", str(tmp_path / "absent.json"))
    with pytest.raises(SurveyError, match="does not exist"):
        Archive(local.url)
    assert ends_at("a.eyJleHAiOiAxMDAwfQ.c", now=0) == 940.0 and ends_at("opaque", now=5) == 3605.0
