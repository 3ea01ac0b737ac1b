"""Passwords and the file that holds them: merged with what stands there, never open to others."""

import base64
import hashlib
import hmac
import stat

import pytest
import yaml

from proc_decam_dagster.database import credentials
from proc_decam_dagster.errors import SurveyError

URL = "postgresql://127.0.0.1:55432/proc_decam_registry"
MINE = {"url": URL, "username": "proc_decam", "password": "first"}
THEIRS = "# the survey's other database\n- url: postgresql://*.example.com\n  username: me\n  password: 'x:y'  # old\n"


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("LSST_DB_AUTH", str(tmp_path / "lsst" / "db-auth.yaml"))
    monkeypatch.delenv("LSST_DB_AUTH_CREDENTIALS", raising=False)
    return credentials.auth_file()


def test_a_new_file_is_for_its_owner_only(path):
    assert credentials.merge_entry(path, MINE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert yaml.safe_load(path.read_text()) == [MINE]
    assert not credentials.merge_entry(path, MINE)


def test_other_entries_and_their_comments_stay(path):
    path.parent.mkdir()
    path.write_text(THEIRS)
    path.chmod(0o600)
    credentials.merge_entry(path, MINE)
    assert path.read_text().endswith(THEIRS) and yaml.safe_load(path.read_text())[0] == MINE
    credentials.merge_entry(path, MINE | {"password": "second"})
    assert path.read_text().endswith(THEIRS)
    moved = {"url": URL.replace("55432", "55433"), "username": "proc_decam", "password": "second"}
    credentials.merge_entry(path, moved, instead=URL)
    entries = yaml.safe_load(path.read_text())
    assert [e["url"] for e in entries] == [moved["url"], "postgresql://*.example.com"]


def test_an_entry_goes_before_one_that_fits_everything(path):
    from lsst.utils.db_auth import DbAuth

    path.parent.mkdir()
    path.write_text("[{url: 'postgresql://*', username: other, password: wrong}]")
    path.chmod(0o600)
    credentials.merge_entry(path, MINE)
    assert DbAuth().getAuth("postgresql", None, "127.0.0.1", 55432, "proc_decam_registry") == ("proc_decam", "first")


def test_a_link_stays_a_link(path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "dotfile")
    credentials.merge_entry(path, MINE)
    assert path.is_symlink() and yaml.safe_load((tmp_path / "dotfile").read_text()) == [MINE]


@pytest.mark.parametrize(
    "text, mode, told", [(THEIRS, 0o640, "chmod 600"), ("- [unclosed: hunter2", 0o600, "YAML list")]
)
def test_a_file_that_the_butler_would_refuse(path, text, mode, told):
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(SurveyError, match=told) as caught:
        credentials.require_usable()
    assert "hunter2" not in str(caught.value)


def test_the_environment_that_hides_the_file(path, monkeypatch):
    monkeypatch.setenv("LSST_DB_AUTH_CREDENTIALS", "[]")
    with pytest.raises(SurveyError, match="unset it"):
        credentials.require_usable()


def test_the_hash_is_the_standards():
    """Verified as a server does it: the client's proof of the password gives back the stored key."""
    _, rest = credentials.scram_verifier("pencil").split("$", 1)
    (iterations, salt), (stored, server) = (part.split(":") for part in rest.split("$"))
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", base64.b64decode(salt), int(iterations))
    key = hmac.digest(salted, b"Client Key", "sha256")
    assert base64.b64decode(stored) == hashlib.sha256(key).digest()
    assert base64.b64decode(server) == hmac.digest(salted, b"Server Key", "sha256")
    assert credentials.scram_verifier("pencil") != credentials.scram_verifier("pencil")
