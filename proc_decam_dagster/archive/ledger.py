"""The ledger of a survey's files: one row a file in a small SQLite database, the truth about what is on disk.

It is written as a download goes, so that whatever ends the process costs the transfers in flight and nothing else.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from proc_decam_dagster.archive.outcomes import FileResult, Outcome
from proc_decam_dagster.archive.state import (
    COLUMNS,
    LEDGER,
    PREFIX,
    ledger_file_of,
    ledger_of_state,
    read_state,
    state_of_ledger,
    write_state,
)
from proc_decam_dagster.errors import SurveyError

log = logging.getLogger(__name__)

VERSION = 1
WAIT_SECONDS = 60.0
"""How long a writer waits for another one; each holds the ledger for some milliseconds."""
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "afs", "ceph", "fuse.sshfs", "9p"})
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    md5 TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', path TEXT NOT NULL, wanted INTEGER NOT NULL DEFAULT 0,
    size INTEGER, bytes INTEGER, mtime_ns INTEGER,
    outcome TEXT NOT NULL DEFAULT 'not tried', attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '', until TEXT NOT NULL DEFAULT '', at TEXT NOT NULL DEFAULT '',
    fetched INTEGER NOT NULL DEFAULT 0, checked_disk INTEGER NOT NULL DEFAULT 0,
    checked_archive INTEGER NOT NULL DEFAULT 0, valid_in_archive INTEGER NOT NULL DEFAULT 1,
    obs_type TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, jobs INTEGER NOT NULL,
    seconds REAL NOT NULL DEFAULT 0, files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS states (path TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Entry:
    """A file's row. ``at`` is when it was last looked at, UTC; ``attempts`` counts all requests for it so far."""

    md5: str
    name: str
    path: str
    wanted: bool
    size: int | None
    bytes: int | None
    mtime_ns: int | None
    outcome: str
    attempts: int
    last_error: str
    until: str
    at: str
    fetched: bool
    checked_disk: bool
    checked_archive: bool
    valid_in_archive: bool
    obs_type: str

    @property
    def verified(self) -> bool:
        """Whether it had its md5 when it was last looked at."""
        return self.outcome == Outcome.VERIFIED

    def on_disk(self) -> os.stat_result | None:
        """Return the state of its file if that still is the one that was verified: by its length."""
        if not self.verified:
            return None
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found if self.bytes in (None, found.st_size) else None

    def unchanged(self) -> bool:
        """Whether its file has the length and the time that it had when it was verified."""
        found = self.on_disk()
        return found is not None and self.mtime_ns in (None, found.st_mtime_ns)


_COLUMNS = ", ".join(f.name for f in fields(Entry))


class Ledger:
    """The rows of one ledger file. Several processes may have it open; each write is one short transaction.

    Parameters
    ----------
    path : `os.PathLike`
        The database, made where it does not exist; usually ``<table>.ledger.sqlite`` beside an exposure table.
    state_file : `os.PathLike`, optional
        The reference's table of the same files. Rows of it that are not known are taken over, whenever it has been
        written by somebody else.
    read_only : `bool`
        Do not write; without a ledger file, what ``state_file`` tells is kept in memory.

    Raises
    ------
    SurveyError
        If the file cannot be opened, or is no ledger.
    """

    def __init__(
        self, path: str | os.PathLike, state_file: str | os.PathLike | None = None, *, read_only: bool = False
    ) -> None:
        self.path = Path(path).absolute()
        self.state_file = Path(state_file).absolute() if state_file else state_of_ledger(self.path)
        with self._told():
            if read_only and self.path.is_file():
                # Write-ahead needs a file beside it even to read, which cannot be made everywhere.
                frozen = "" if os.access(self.path.parent, os.W_OK) else "&immutable=1"
                address = f"{self.path.as_uri()}?mode=ro{frozen}"
            elif read_only:
                address = ":memory:"
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                address = str(self.path)
            self._db = sqlite3.connect(
                address, timeout=WAIT_SECONDS, isolation_level=None, uri=True, check_same_thread=False
            )
            try:
                self._prepare(writable="?mode=ro" not in address)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, writable: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise SurveyError(f"{self.path} was written by a newer version", fix="install that version")
        if not writable:
            return
        if self.path.parent.exists() and (kind := _file_system(self.path.parent)) in NETWORK:
            # Write-ahead needs memory that all writers share, which those of several machines do not.
            log.warning("%s is on a network file system (%s): keep to one machine at a time", self.path, kind)
            self._db.execute("PRAGMA journal_mode=DELETE")
        else:
            self._write_ahead()
        if version < VERSION:
            with self._write():
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={VERSION}")
        if self.state_file.is_file():
            self.import_state(self.state_file)

    def _write_ahead(self) -> None:
        """Switch to write-ahead: SQLite does not wait for its turn here, though another process may be at it."""
        for attempt in range(50):
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or attempt == 49:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------- rows

    def entries(self, md5s: Iterable[str] | None = None) -> dict[str, Entry]:
        """Return rows by md5, all of them or those asked for."""
        with self._told():
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM files").fetchall()
        wanted = None if md5s is None else set(md5s)
        return {row[0]: Entry(*row) for row in rows if wanted is None or row[0] in wanted}

    def want(self, files: Iterable[tuple[str, str, str | os.PathLike, str]]) -> None:
        """Enter files that a table asks for: (md5, name, path where it will be, observation type)."""
        with self._write():
            self._db.executemany(
                "INSERT INTO files (md5, name, path, obs_type, wanted) VALUES (?, ?, ?, ?, 1) ON CONFLICT (md5) "
                "DO UPDATE SET wanted = 1, name = excluded.name, obs_type = excluded.obs_type "
                "WHERE wanted = 0 OR name != excluded.name OR obs_type != excluded.obs_type",
                ((md5, name, str(path), kind) for md5, name, path, kind in files),
            )

    def record(self, results: Iterable[FileResult]) -> None:
        """Write what became of files. One that was not tried, or merely is not here, changes nothing."""
        now = _now()
        with self._write():
            self._db.executemany(
                "INSERT INTO files (md5, name, path, size, bytes, mtime_ns, outcome, attempts, last_error, until, at, "
                "fetched, checked_disk, checked_archive, valid_in_archive) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
                "ON CONFLICT (md5) DO UPDATE SET path = excluded.path, size = coalesce(excluded.size, size), "
                "bytes = excluded.bytes, mtime_ns = excluded.mtime_ns, outcome = excluded.outcome, "
                "attempts = attempts + excluded.attempts, last_error = excluded.last_error, until = excluded.until, "
                "at = excluded.at, fetched = max(fetched, excluded.fetched), "
                "checked_disk = excluded.checked_disk, "
                "checked_archive = max(checked_archive, excluded.checked_archive), "
                "valid_in_archive = CASE WHEN excluded.checked_archive THEN excluded.valid_in_archive "
                "ELSE valid_in_archive END",
                [
                    (
                        r.md5sum, r.path.name, str(r.path), r.size, r.bytes or None, r.mtime_ns, str(r.outcome),
                        r.attempts, r.detail, r.until, now, r.fetched, r.checked_disk, r.checked_archive,
                        r.valid_in_archive,
                    )
                    for r in results
                    if r.outcome not in (Outcome.NOT_TRIED, Outcome.ABSENT)
                ],
            )  # fmt: skip

    def mean_sizes(self) -> dict[str, float]:
        """Return the mean bytes of a file by observation type, and of all under ``""``, as far as any is known."""
        with self._told():
            rows = self._db.execute(
                "SELECT obs_type, sum(coalesce(bytes, size)), count(*) FROM files "
                "WHERE coalesce(bytes, size) IS NOT NULL GROUP BY obs_type"
            ).fetchall()
        means = {kind: total / number for kind, total, number in rows}
        if rows:
            means[""] = sum(r[1] for r in rows) / sum(r[2] for r in rows)
        return means

    # ---------------------------------------------------------------- runs

    def start_run(self, jobs: int) -> int:
        """Enter a download; return its number for `tell_run`."""
        with self._write():
            return self._db.execute("INSERT INTO runs (at, jobs) VALUES (?, ?)", (_now(), jobs)).lastrowid

    def tell_run(self, run: int, seconds: float, files: int, size: int) -> None:
        """Write how far a download is."""
        with self._write():
            self._db.execute(
                "UPDATE runs SET seconds = ?, files = ?, bytes = ? WHERE id = ?", (seconds, files, size, run)
            )

    def past_rate(self, runs: int = 10) -> float | None:
        """Return the bytes a second of the last downloads that fetched anything; `None` if there was none."""
        with self._told():
            size, seconds = self._db.execute(
                "SELECT sum(bytes), sum(seconds) FROM (SELECT * FROM runs WHERE bytes > 0 AND seconds > 0 "
                "ORDER BY id DESC LIMIT ?)",
                (runs,),
            ).fetchone()
        return size / seconds if size and seconds else None

    # ---------------------------------------------------------------- the reference's table

    def import_state(self, path: str | os.PathLike) -> int:
        """Take over the rows of a ``downloaded_*.ecsv`` that are not known here; return how many.

        A file that was verified according to it stays so; one that is not, is tried again by the next download. It is
        not read again until somebody else has written it.
        """
        path, stamp = Path(path).absolute(), _stamp(path)
        with self._told():
            old = self._db.execute("SELECT stamp FROM states WHERE path = ?", (str(path),)).fetchone()
        if old and old[0] == stamp:
            return 0
        table = read_state(path, ("path", "md5sum"))
        kept = {"did_download": False, "did_check_archive": False}  # a table without flags lists good files
        columns = [table[c].tolist() if c in table.colnames else [kept.get(c, True)] * len(table) for c in COLUMNS]
        now, rows = _now(), []
        source = f"as {path.name} says"
        for where, md5, fetched, in_archive, on_disk, asked, read in zip(*columns):
            if on_disk and read:
                outcome, error = Outcome.VERIFIED, ""
            elif not in_archive and asked:
                outcome, error = Outcome.ARCHIVE_INVALID, source
            else:
                outcome, error = (Outcome.MD5_MISMATCH if read else Outcome.UNAVAILABLE), source
            where = str(where) if os.path.isabs(str(where)) else str(path.parent / str(where))
            name = os.path.basename(where).partition("_")[2] or os.path.basename(where)
            rows.append((str(md5), name, where, str(outcome), error, now, fetched, read, asked, in_archive))
        with self._write():
            before = self._db.total_changes
            self._db.executemany(
                "INSERT INTO files (md5, name, path, outcome, last_error, at, fetched, checked_disk, checked_archive, "
                "valid_in_archive) VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (md5) DO UPDATE SET path = excluded.path, "
                "outcome = excluded.outcome, last_error = '', at = excluded.at, bytes = NULL, mtime_ns = NULL, "
                "checked_disk = 1 WHERE excluded.outcome = 'verified' AND files.outcome != 'verified'",
                rows,
            )
            taken = self._db.total_changes - before
            self._remember_state(path, stamp)
        return taken

    def export_state(self, path: str | os.PathLike | None = None) -> Path:
        """Write all that is known in the reference's columns; return the file."""
        path = Path(path or self.state_file).absolute()
        with self._told():
            rows = self._db.execute(
                "SELECT path, md5, fetched, valid_in_archive, outcome = 'verified', checked_archive, checked_disk "
                "FROM files WHERE outcome != 'not tried' ORDER BY md5"
            ).fetchall()
        write_state(path, ((p, m, f, a, d, ca, cd) for p, m, f, a, d, ca, cd in rows))
        with self._write():
            self._remember_state(path, _stamp(path))
        return path

    def _remember_state(self, path: Path, stamp: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO states VALUES (?, ?)", (str(path), stamp))

    # ---------------------------------------------------------------- transactions

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._told():
            self._roll_back()  # of a transaction that a Ctrl-C cut off before it could do so itself
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite raises into one line."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                fix = "free some space, and run the command again"
            else:
                fix = "see that its folder can be written, and run the command again"
            raise SurveyError(f"the ledger {self.path} cannot be used ({error})", fix=fix) from error
        except sqlite3.DatabaseError as error:
            raise SurveyError(
                f"{self.path} is no ledger ({error})",
                fix="move it away: files that are on disk are verified by reading them, and entered again",
            ) from None


def ledgers_near(image_dir: str | os.PathLike, exposures_file: str | os.PathLike | None = None) -> list[Path]:
    """Return the ledgers that may know a folder's files: there, in the folder above, and beside the table.

    One that is yet to be made from a ``downloaded_*.ecsv`` counts.
    """
    image_dir = Path(image_dir).absolute()
    found = {ledger_file_of(Path(exposures_file).absolute())} if exposures_file is not None else set()
    for folder in (image_dir, image_dir.parent):
        found |= set(folder.glob(f"*{LEDGER}"))
        found |= {ledger_of_state(p) for p in folder.glob(f"{PREFIX}*.ecsv")}
    return sorted(p for p in found if p.is_file() or state_of_ledger(p).is_file())


def known_files(image_dir: str | os.PathLike, exposures_file: str | os.PathLike | None = None) -> dict[str, Entry]:
    """Return what the ledgers near a folder know of files, by md5; one that is verified wins over one that is not."""
    known: dict[str, Entry] = {}
    for path in ledgers_near(image_dir, exposures_file):
        writable = os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
        with Ledger(path, read_only=not writable) as ledger:
            for md5, entry in ledger.entries().items():
                if md5 not in known or (entry.verified and not known[md5].verified):
                    known[md5] = entry
    return known


def downloaded_md5s(image_dir: str | os.PathLike, exposures_file: str | os.PathLike | None = None) -> set[str]:
    """Return the md5sums of the files that the ledgers call verified and that are still there, at their length.

    Parameters
    ----------
    image_dir : `os.PathLike`
        Folder of images; the ledgers there and in the folder above are read, never the list of its files.
    exposures_file : `os.PathLike`, optional
        The exposure table, whose ledger stands beside it.
    """
    return {md5 for md5, entry in known_files(image_dir, exposures_file).items() if entry.on_disk()}


def folders_of(exposures_file: str | os.PathLike) -> set[Path]:
    """Return the folders in which the ledger of an exposure table has verified files."""
    path = ledger_file_of(Path(exposures_file).absolute())
    if not path.is_file() and not state_of_ledger(path).is_file():
        return set()
    with Ledger(path, read_only=not os.access(path.parent, os.W_OK)) as ledger:
        return {Path(entry.path).parent for entry in ledger.entries().values() if entry.verified}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stamp(path: str | os.PathLike) -> str:
    found = os.stat(path)
    return f"{found.st_mtime_ns}:{found.st_size}"


def _file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, as Linux names it; empty elsewhere."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    real = os.path.realpath(folder)
    over = [(point, kind) for point, kind in mounts if real == point or real.startswith(point.rstrip("/") + "/")]
    return max(over, key=lambda mount: len(mount[0]))[1] if over else ""
