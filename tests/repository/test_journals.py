"""A SQLite registry whose writer was killed in the middle of a transaction."""

import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest
from lsst.daf.butler import CollectionType

from proc_decam_dagster.repository import Repository

WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute(f"PRAGMA cache_size=-{sys.argv[2]}")
database.execute("BEGIN IMMEDIATE")
database.execute("CREATE TABLE half (text TEXT)")
database.executemany("INSERT INTO half VALUES (?)", [("x" * 1000,)] * 500)
print("half done", flush=True)
sys.stdin.read()
database.execute("COMMIT")
"""


@contextmanager
def writing(repo: Repository, cache_kb: int):
    """Run a process in the middle of a transaction: what is beyond its cache is in the file already."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(repo.root / "gen3.sqlite3"), str(cache_kb)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == b"half done\n"
        yield process
        process.kill()


@pytest.fixture
def killed(repo) -> Repository:
    """A repository whose writer was killed when half of it was in the file."""
    repo.butler(writeable=True).collections.register("kept", CollectionType.RUN)
    repo.butler()
    with writing(repo, cache_kb=10) as process:
        process.kill()
    return repo


def test_readers_read_after_a_writer_was_killed(killed):
    journal = killed.root / "gen3.sqlite3-journal"
    assert journal.is_file()
    assert list(killed.butler().collections.query("kept")) == ["kept"]  # a Butler that was open before
    assert not journal.exists()


def test_so_do_programs_of_the_middleware_alone(killed):
    program = "import sys; from lsst.daf.butler import Butler; Butler(sys.argv[1]).collections.query('kept')"
    read = [sys.executable, "-c", program, str(killed.root)]
    alone = subprocess.run(read, capture_output=True, text=True)
    assert "attempt to write a readonly database" in alone.stderr  # what it is all for
    with closing(Repository(killed.root)) as another:
        another.butler()
    subprocess.run(read, check=True)


def test_a_writer_that_lives_is_left_alone(repo):
    with writing(repo, cache_kb=100_000) as process:
        assert (repo.root / "gen3.sqlite3-journal").is_file()
        assert list(repo.butler().collections.query("DECam/calib")) == ["DECam/calib"]
        process.stdin.close()
        assert process.wait(60) == 0
    with closing(sqlite3.connect(repo.root / "gen3.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM half").fetchone() == (500,)
