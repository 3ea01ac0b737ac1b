"""What a repository's Postgres cluster is: its folder, its settings, its address; nothing is run here."""

import fcntl
import os
import pwd
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from proc_decam_dagster.database.files import write_file
from proc_decam_dagster.database.programs import ServerUser
from proc_decam_dagster.errors import SurveyError

FOLDER = "_registry"
PORT = 55432
DATABASE = "proc_decam_registry"
DAGSTER_DATABASE = "proc_decam_dagster"
LOOPBACK = "127.0.0.1"
LONGEST_SOCKET = 103
"""Bytes of a unix socket's path that every system takes."""
NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class ClusterSettings:
    """Settings of a cluster, kept in ``cluster.yaml``; no secret is among them.

    Attributes
    ----------
    port : `int`
        Of the unix socket and of every address.
    database : `str`
        Of the Butler's registry.
    listen : `str`
        Address for other machines; empty: this machine only.
    allow : `tuple` [`str`, ...]
        Networks that may connect to it, over TLS.
    dagster : `bool`
        Whether there is a database for Dagster's storage.
    host : `str`
        Machine that has started the server last.
    """

    port: int = PORT
    database: str = DATABASE
    listen: str = ""
    allow: tuple[str, ...] = ()
    dagster: bool = False
    host: str = ""


class Cluster:
    """The cluster of a repository, whether it has been made or not.

    Attributes
    ----------
    root : `pathlib.Path`
        The repository.
    folder, data, log : `pathlib.Path`
        The cluster's own folder in it, Postgres's data, the server's log.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root).expanduser().resolve()
        self.folder = self.root / FOLDER
        self.data = self.folder / "data"
        self.log = self.folder / "log" / "server.log"
        self.settings_file = self.folder / "cluster.yaml"
        self.credentials_file = self.folder / "db-auth.yaml"
        self.certificate = self.folder / "server.crt"
        self.dagster_file = self.folder / "dagster.yaml"
        self.dagster_secret = self.folder / "dagster.env"
        self.butler_file = self.root / "butler.yaml"

    @property
    def exists(self) -> bool:
        """Whether it has been made."""
        return self.settings_file.is_file()

    def require(self) -> None:
        """Do nothing if the cluster exists.

        Raises
        ------
        SurveyError
            If it does not.
        """
        if not self.exists:
            raise SurveyError(
                f"{self.root} has no Postgres database of its own",
                f"a cluster in {self.folder}",
                f"`proc-decam db create {self.root}` makes one",
            )

    @property
    def settings(self) -> ClusterSettings:
        """The settings as they stand on disk; the defaults before the cluster is made."""
        if not self.exists:
            return ClusterSettings()
        try:
            values = yaml.safe_load(self.settings_file.read_text())
            known = {f.name for f in fields(ClusterSettings)}
            settings = ClusterSettings(**{k: v for k, v in values.items() if k in known})
            return replace(settings, port=int(settings.port), allow=tuple(settings.allow))
        except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            raise SurveyError(
                f"{self.settings_file} cannot be read ({' '.join(str(error).split())})",
                "a YAML mapping with port and database",
                "mend it",
            ) from None

    def write_settings(self, settings: ClusterSettings) -> None:
        """Write the settings."""
        values = asdict(settings) | {"allow": list(settings.allow)}
        write_file(self.settings_file, yaml.safe_dump(values, sort_keys=False), owner=self.root)

    def change(self, **changes: Any) -> ClusterSettings:
        """Change settings by name and return them all."""
        settings = replace(self.settings, **changes)
        self.write_settings(settings)
        return settings

    @property
    def socket_folder(self) -> Path:
        """Folder of the unix socket: in the cluster's, or a private one below /tmp where that path is too long."""
        own = self.folder / "socket"
        plain = not set(",\"'\\") & set(str(own))
        if plain and len(os.fsencode(own / ".s.PGSQL.65535.lock")) <= LONGEST_SOCKET:
            return own
        return Path(tempfile.gettempdir()) / f"proc-decam-{zlib.crc32(os.fsencode(self.folder)):08x}"

    @property
    def version(self) -> int | None:
        """Major version of the PostgreSQL that has made it; `None` if it cannot be seen."""
        try:
            return int((self.data / "PG_VERSION").read_text().split(".")[0])
        except (OSError, ValueError):
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the cluster's lock: of two commands that change or start it, one waits for the other."""
        path = self.folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.geteuid() == 0:
                status = self.root.stat()
                os.fchown(descriptor, status.st_uid, status.st_gid)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def server_user(self) -> ServerUser:
        """Return the user that runs the server.

        That is whoever owns the data. For a new cluster it is the caller; where that is root, whom Postgres refuses,
        the owner of the repository's folder, or else ``postgres`` or ``nobody``.

        Raises
        ------
        SurveyError
            If it is another one, whom the caller cannot become; if root finds none.
        """
        me = os.geteuid()
        if self.data.is_dir():
            owner = _user(self.data.stat().st_uid)
            if me not in (0, owner.uid):
                raise SurveyError(
                    f"the database in {self.folder} belongs to user {owner.name}",
                    f"{owner.name} or root",
                    "ask them, or run the command as one of them",
                )
            return owner
        if me != 0:
            return _user(me)
        if self.root.is_dir() and (uid := self.root.stat().st_uid):
            return _user(uid)
        for name in ("postgres", "nobody"):
            try:
                return _user(pwd.getpwnam(name).pw_uid)
            except KeyError:
                continue
        raise SurveyError(
            "Postgres refuses to run as root, and there is no user postgres or nobody", "an unprivileged user",
            "`useradd --system postgres`, or run the command as an ordinary user",
        )  # fmt: skip


def address(settings: ClusterSettings) -> tuple[str, str]:
    """Return the host that clients connect to, and the query part of its URI.

    Over TLS the client demands a channel binding: only the server that knows the password's hash can answer, so
    that nobody can stand between the two, although the certificate is signed by no authority.
    """
    if not settings.listen:
        return LOOPBACK, ""
    host = settings.listen
    if host in ("*", "0.0.0.0", "::"):
        import socket

        host = socket.getfqdn()
    return host, "?sslmode=require&channel_binding=require"


def place(settings: ClusterSettings, database: str | None = None) -> str:
    """Return ``postgresql://host:port/database`` as credentials name it."""
    host, _ = address(settings)
    host = f"[{host}]" if ":" in host else host
    return f"postgresql://{host}:{settings.port}/{database or settings.database}"


def registry_uri(settings: ClusterSettings) -> str:
    """Return the registry's URI: it names no user and holds no password, which every person has for themselves."""
    return place(settings) + address(settings)[1]


def require_name(name: str, what: str) -> str:
    """Return a name that SQL takes without quotes.

    Raises
    ------
    SurveyError
        If it is none.
    """
    if not NAME.fullmatch(name):
        raise SurveyError(
            f"{what} {name!r} cannot be used",
            "small letters, digits and _, a letter first, 40 at most",
            "choose another",
        )
    return name


def _user(uid: int) -> ServerUser:
    try:
        entry = pwd.getpwuid(uid)
        return ServerUser(uid, entry.pw_gid, entry.pw_name)
    except KeyError:  # initdb itself needs the name
        raise SurveyError(
            f"user id {uid} has no name on this machine", "a user that the operating system knows",
            f"add it to /etc/passwd: `useradd --uid {uid} NAME`",
        ) from None  # fmt: skip
