"""Passwords: made, hashed, and kept in the file that the Butler looks them up in (`~/.lsst/db-auth.yaml`)."""

import base64
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from proc_decam_dagster.database.files import write_file
from proc_decam_dagster.errors import SurveyError

ITERATIONS = 4096
Entry = dict[str, str]


def new_password() -> str:
    """Return a random password of 32 letters and digits that needs no quoting anywhere."""
    return secrets.token_urlsafe(24)


def scram_verifier(password: str) -> str:
    """Return what the server keeps of a password (SCRAM-SHA-256, RFC 5802).

    It is computed here so that no password is ever sent to the server, where a log could show it.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(b).decode() for b in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt64}${stored64}:{server64}"


def auth_file() -> Path:
    """Return the file that the Butler reads: ``LSST_DB_AUTH``, or ``~/.lsst/db-auth.yaml``."""
    return Path(os.environ.get("LSST_DB_AUTH") or "~/.lsst/db-auth.yaml").expanduser()


def require_usable() -> None:
    """Check, before anything is made, that the Butler will read an entry that is put into `auth_file`.

    Raises
    ------
    SurveyError
        If the file is open to others or no list of entries, or if the environment goes before it.
    """
    if os.environ.get("LSST_DB_AUTH_CREDENTIALS"):
        raise SurveyError(
            "LSST_DB_AUTH_CREDENTIALS is set, so that the Butler reads no file of credentials",
            f"credentials in {auth_file()}",
            "unset it",
        )
    path = auth_file()
    if path.is_file():
        if path.stat().st_mode & 0o077:
            raise SurveyError(f"{path} can be read by others", "mode 600", f"`chmod 600 {path}`")
        _entries(path, path.read_text())


def read_entry(path: Path, url: str, username: str) -> Entry | None:
    """Return a file's entry of one address and user; `None` if it has none."""
    if not path.is_file():
        return None
    for entry in _entries(path, path.read_text()):
        if entry.get("url") == url and entry.get("username") == username:
            return entry
    return None


def merge_entry(path: Path, entry: Entry, *, instead: str = "") -> bool:
    """Put an entry first into a credentials file; all others, and their comments, stay. Return whether it changed.

    Parameters
    ----------
    path : `pathlib.Path`
        Made, with its folder, if it is not there; for its owner's eyes only.
    entry : `dict`
        ``url``, ``username`` and ``password``. An older one of the same address and user is replaced.
    instead : `str`, optional
        Address that the same user had before; its entry goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _folder_lock(path.parent):
        text = path.read_text() if path.is_file() else ""
        old = _entries(path, text)
        mine = {(url, entry["username"]) for url in (entry["url"], instead)}
        kept = [e for e in old if (e.get("url"), e.get("username")) not in mine]
        wanted = [entry, *kept]
        if old == wanted:
            return False
        block = yaml.safe_dump([entry], sort_keys=False)
        candidates = [block + text]
        standing = [e for e in old if e not in kept]
        if len(standing) == 1 and standing[0]["url"] == entry["url"] and text.count(standing[0]["password"]) == 1:
            candidates.append(text.replace(standing[0]["password"], entry["password"]))
        whole = next((c for c in candidates if _same(c, wanted)), yaml.safe_dump(wanted, sort_keys=False))
        write_file(path, whole, mode=0o600, owner=path if path.exists() else path.parent)
    return True


def _same(text: str, wanted: list[Entry]) -> bool:
    try:
        return yaml.safe_load(text) == wanted
    except yaml.YAMLError:
        return False


def _entries(path: Path, text: str) -> list[Entry]:
    try:
        entries = yaml.safe_load(text) or []
    except yaml.YAMLError:  # its message would show the line, and that may be a password
        entries = None
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "url" in e for e in entries):
        raise SurveyError(f"{path} cannot be read", "a YAML list of url, username and password", "mend or remove it")
    return entries


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # network file systems may not lock folders; the file is written whole all the same
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
