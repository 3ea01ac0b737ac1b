"""How commands are judged that must fail: one line that says what to do, and nothing written."""

import hashlib
import shlex
import sqlite3
from pathlib import Path

from click.testing import CliRunner

from proc_decam_dagster.cli.main import main

NIGHT, FIRST, ZEROS = "20190401", 845001, 5
NOBODY = "http://127.0.0.1:9/api"
TABLE = "./data/exposures.ecsv"
STATE = ("downloaded_", ".ledger.sqlite")
"""What a download notes of each file, also of those that it could not have."""
SILENT = (".lock", ".sqlite3-", ".sqlite-")
"""Files that say nothing about what was written: locks, and SQLite's own."""


def run(line: str, **environment: str):
    return CliRunner().invoke(main, shlex.split(line), env=environment, prog_name="proc-decam")


def written(folder: Path) -> dict[str, str]:
    """Return what is in a folder: each file's digest, and each registry's rows."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if any(part in name for part in SILENT) or not path.is_file():
            continue
        if path.suffix == ".sqlite3":
            try:
                with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                    text = "\n".join(sorted(line for line in database.iterdump() if line.startswith("INSERT")))
            except sqlite3.DatabaseError:
                text = path.read_bytes().hex()
            found[name] = hashlib.md5(text.encode()).hexdigest()
        else:
            found[name] = hashlib.md5(path.read_bytes()).hexdigest()
    return found


def error_of(stderr: str) -> str:
    """Return the one line that tells an error; it is the last one."""
    assert "Traceback" not in stderr, stderr
    lines = stderr.splitlines()
    (told,) = [line for line in lines if line.lower().startswith("error:")]
    assert told == lines[-1] and told.startswith("error: ")
    return told


def refused(line: str, *words: str, code: int = 1, but: tuple[str, ...] = (), **environment: str) -> str:
    """Run a command that must fail; check its error line, and that nothing was written (except in `but`)."""
    before = written(Path.cwd())
    result = run(line, **environment)
    assert isinstance(result.exception, SystemExit), f"{line}\n{result.output}\n{result.exception!r}"
    told = error_of(result.stderr)
    assert result.exit_code == code and "Traceback" not in result.stdout, result.output
    for word in words:
        assert word in told, told
    after = written(Path.cwd())
    changed = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    assert not {n for n in changed if not any(part in n for part in but)}, changed
    return told


def raw_of(number: int) -> Path:
    (path,) = Path("data/images").glob(f"*_c4d_{number}_ori.fits.fz")
    return path
