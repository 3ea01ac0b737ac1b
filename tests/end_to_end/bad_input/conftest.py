"""A survey of one night of tiny raws, to be harmed: real Butler repositories and real HTTP on loopback."""

import os
import shutil
from pathlib import Path

import pytest
from astropy.table import Table

from proc_decam_dagster.archive import client
from proc_decam_dagster.survey.exposures import write_exposures
from tests.cli.conftest import TESTS, load

from .refusals import FIRST, NIGHT, TABLE, ZEROS, run


@pytest.fixture(scope="session")
def archive():
    server = load(TESTS / "archive" / "conftest.py").LocalArchive()
    yield server
    server.close()


@pytest.fixture(scope="session")
def template(archive, tmp_path_factory) -> Path:
    """A survey of one night of tiny raws, its repository with the zeros ingested and tagged; to copy."""
    raws = load(TESTS / "repository" / "conftest.py")
    folder = tmp_path_factory.mktemp("bad_input") / "survey"
    images = folder / "data" / "images"
    table = raws.make_exposures(images, "z" * ZEROS + "ffss")
    for i, row in enumerate(table):  # names carry the real md5 here: downloads look at it
        old = images / f"{row['md5sum']}_c4d_{row['EXPNUM']}_ori.fits.fz"
        body = old.read_bytes()
        added = archive.add(
            f"c4d_{row['EXPNUM']}_ori.fits.fz", body, EXPNUM=int(row["EXPNUM"]), obs_type=str(row["obs_type"])
        )
        table["md5sum"][i] = added["md5sum"]
        old.rename(images / f"{added['md5sum']}_c4d_{row['EXPNUM']}_ori.fits.fz")
    write_exposures(table, folder / "data" / "exposures.ecsv")
    fakes = Table({"RA": [149.4], "DEC": [1.7], "MAG": [22.0], "BAND": ["VR"], "EXPNUM": [FIRST + 7]})
    fakes.write(folder / "fakes.fits")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for line in (f"create ./repo --exposures {TABLE}", f"ingest {TABLE} -b ./repo", f"raw ./repo bias {NIGHT}"):
            result = run(line)
            assert result.exit_code == 0, result.output
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def survey(template, tmp_path, monkeypatch) -> Path:
    """A copy of it, which is the working directory."""
    shutil.copytree(template, tmp_path / "survey")
    monkeypatch.chdir(tmp_path / "survey")
    for name in ("J", "NOIRLAB_USER", "NOIRLAB_PASS", "PROC_DECAM_ARCHIVE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "LONGEST_WAIT", 0.01)  # between two attempts
    return tmp_path / "survey"
