"""Who asks the archive: an account from the environment, or from a file that nobody else can read."""

import base64
import json
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from proc_decam_dagster.errors import SurveyError

FILE_VARIABLE = "NOIRLAB_AUTH_FILE"
TOKEN_SECONDS = 3600.0
"""Age at which a token is replaced, where it does not tell itself when it ends."""
EARLY_SECONDS = 60.0


@dataclass(frozen=True)
class Credentials:
    """An account, or a bare token, and where it was found; neither password nor token is ever shown."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    source: str = ""

    def __bool__(self) -> bool:
        return bool((self.user and self.password) or self.token)


def auth_file() -> Path:
    """Return the file of credentials: that of the environment, else the user's own."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named).expanduser()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return home / "proc-decam" / "noirlab.json"


def find_credentials() -> Credentials:
    """Return the credentials of the environment, else of the file; empty ones if there are none.

    Raises
    ------
    SurveyError
        If the file can be read by others, or is not what it should be.
    """
    user, password = os.environ.get("NOIRLAB_USER", ""), os.environ.get("NOIRLAB_PASS", "")
    token = os.environ.get("NOIRLAB_TOKEN", "")
    if (user and password) or token:
        return Credentials(user, password, token, "the environment")
    path = auth_file()
    if path.is_file():
        return read_credentials(path)
    if FILE_VARIABLE in os.environ and os.environ[FILE_VARIABLE]:
        raise SurveyError(f"{FILE_VARIABLE} names {path}, which does not exist", fix="correct or unset it")
    return Credentials(user, password)


def read_credentials(path: Path) -> Credentials:
    """Return the credentials in a JSON file with ``user`` and ``password``, or ``token``.

    Raises
    ------
    SurveyError
        If it can be read by others, or holds neither.
    """
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        raise SurveyError(f"{path} can be read by others", "a file of mode 0600", f"chmod 600 {path}")
    expected = '{"user": "…", "password": "…"} or {"token": "…"}'
    try:
        values = json.loads(path.read_text())
    except (ValueError, OSError):  # what is in it must not be told
        values = None
    if not isinstance(values, dict):
        raise SurveyError(f"{path} cannot be read as JSON", expected, "correct it")
    user = str(values.get("user") or values.get("email") or "")
    found = Credentials(user, str(values.get("password") or ""), str(values.get("token") or ""), str(path))
    if not found:
        raise SurveyError(f"{path} holds no account", expected, "correct it")
    return found


def ends_at(token: str, now: float | None = None) -> float:
    """Return when a token should be replaced, in seconds since 1970: by what it says itself, else by its age."""
    now = time.time() if now is None else now
    try:
        body = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"]) - EARLY_SECONDS
    except (IndexError, ValueError, KeyError, TypeError):
        return now + TOKEN_SECONDS
