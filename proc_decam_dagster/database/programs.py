"""PostgreSQL's programs: where they are installed, and running them as the user that owns the cluster."""

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from proc_decam_dagster.errors import SurveyError

NEEDED = ("initdb", "pg_ctl", "postgres", "psql", "pg_dump", "pg_restore")
OLDEST = 13
FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian
    "/usr/pgsql-*/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/pgsql/bin",
)
INSTALL = "install it: `apt-get install postgresql`, or `conda install -c conda-forge postgresql`"


@dataclass(frozen=True)
class Programs:
    """An installed PostgreSQL.

    Attributes
    ----------
    folder : `pathlib.Path`
        Where its programs lie, all of one version.
    version : `str`
        For instance ``15.14``.
    """

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """Major version: a cluster is run by the one that made it."""
        return int(self.version.split(".")[0])

    def path(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.folder / name)


def find_programs(major: int | None = None) -> Programs:
    """Return an installed PostgreSQL, the newest if no version is asked for.

    Raises
    ------
    SurveyError
        If there is none, or none of that version.
    """
    found = [p for folder in _folders() if (p := _programs(folder)) and p.major >= OLDEST]
    if major is not None:
        for programs in found:
            if programs.major == major:
                return programs
        have = ", ".join(sorted({p.version for p in found})) or "none"
        raise SurveyError(
            f"the cluster was made by PostgreSQL {major}, and installed is {have}",
            f"PostgreSQL {major}",
            f"`apt-get install postgresql-{major}`, or `conda install -c conda-forge postgresql={major}`",
        )
    if not found:
        raise SurveyError(
            f"PostgreSQL is not installed: no {' and '.join(NEEDED[:2])} on PATH or in {FOLDERS[0]}",
            f"PostgreSQL {OLDEST} or newer",
            INSTALL,
        )
    return max(found, key=lambda p: p.major)


def _folders() -> list[Path]:
    """Return the folders to look in, those that the user has chosen first."""
    chosen = [Path(sys.prefix) / "bin"]
    if (pg_ctl := shutil.which("pg_ctl")) is not None:
        chosen.insert(0, Path(pg_ctl).resolve().parent)
    if (pg_config := shutil.which("pg_config")) is not None:
        done = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        if done.returncode == 0:
            chosen.append(Path(done.stdout.strip()))
    return list(dict.fromkeys([*chosen, *(Path(p) for pattern in FOLDERS for p in sorted(glob.glob(pattern)))]))


def _programs(folder: Path) -> Programs | None:
    if not all(os.access(folder / name, os.X_OK) for name in NEEDED):
        return None
    done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True)
    words = done.stdout.split()  # postgres (PostgreSQL) 15.14 (Debian …)
    if done.returncode or len(words) < 3 or not words[2][:1].isdigit():
        return None
    return Programs(folder, words[2])


@dataclass(frozen=True)
class ServerUser:
    """The operating system's user that runs the server: Postgres refuses to run as root."""

    uid: int
    gid: int
    name: str

    @property
    def is_me(self) -> bool:
        """Whether it is the user of this process."""
        return self.uid == os.geteuid()

    def run(
        self, command: Sequence[str], cwd: Path, *, text: str = "", stdin: IO | None = None, stdout: IO | None = None
    ) -> subprocess.CompletedProcess:
        """Run a program as this user, in a folder that it may enter, and return what it said.

        The environment's own Postgres variables are left out: they would lead to another server.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment |= {"LC_ALL": "C", "HOME": str(cwd)}
        switch = {} if self.is_me else {"user": self.uid, "group": self.gid, "extra_groups": []}
        source = {"stdin": stdin} if stdin is not None else {"input": text.encode()}
        done = subprocess.run(
            command, cwd=cwd, env=environment, umask=0o077, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
            **source, **switch,
        )  # fmt: skip
        done.stdout = (done.stdout or b"").decode(errors="replace")
        done.stderr = done.stderr.decode(errors="replace")
        return done
