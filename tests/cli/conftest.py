"""A tiny survey served on loopback, and the commands run on it in a folder of their own."""

import importlib.util
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from proc_decam_dagster.cli.main import main

TESTS = Path(__file__).resolve().parents[1]
NIGHTS = ("20190401", "20190402")


def load(path: Path) -> ModuleType:
    """Return the helpers of another folder's tests."""
    spec = importlib.util.spec_from_file_location(f"helpers_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def proc_decam(line: str, code: int | None = 0, **environment: str) -> Result:
    """Run a command line as typed (after ``proc-decam``) and check its exit code."""
    result = CliRunner().invoke(main, shlex.split(line), env=environment)
    if code is not None:
        assert result.exit_code == code, f"{line}\n{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """An archive with two nights of tiny raw files: zeros, dome flats, science exposures; the second lacks flats."""
    archive = load(TESTS / "archive" / "conftest.py").LocalArchive()
    raws = load(TESTS / "repository" / "conftest.py")
    folder, number = tmp_path_factory.mktemp("raws"), 845001
    for night, kinds in zip(NIGHTS, ("zzffss", "zss")):
        for minute, kind in enumerate(kinds):
            obs_type = {"z": raws.ZERO, "f": raws.FLAT, "s": raws.SCIENCE}[kind]
            name = f"c4d_{number}_ori.fits.fz"
            path = raws.write_raw(folder / name, number, obs_type, minute + (0 if night == NIGHTS[0] else 30))
            archive.add(
                name, path.read_bytes(), obs_type=obs_type, EXPNUM=number,
                caldat=f"{night[:4]}-{night[4:6]}-{night[6:]}", RA="09:57:36.0", DEC="01:42:00.0",
                FILTER="solid plate 0.0 0.0" if kind == "z" else raws.FILTER,
                dateobs_min=f"2019-04-02T05:{minute + (0 if night == NIGHTS[0] else 30):02d}:18.382875",
            )  # fmt: skip
            number += 1
    yield archive
    archive.close()


@pytest.fixture(scope="session")
def survey_folder(served, tmp_path_factory) -> Path:
    """A folder in which `exposures`, `download` and `create` were run."""
    folder = tmp_path_factory.mktemp("survey")
    data = folder / "data"
    proc_decam(f"exposures {data} --archive-url {served.url}")
    proc_decam(f"download {data}/exposures.ecsv --download-dir {data}/images --archive-url {served.url}")
    proc_decam(f"create {folder}/repo --exposures {data}/exposures.ecsv")
    return folder


@pytest.fixture
def survey(survey_folder, tmp_path, monkeypatch) -> Path:
    """A copy of it that is the working directory, so that command lines run as typed."""
    import shutil

    shutil.copytree(survey_folder, tmp_path / "survey")
    monkeypatch.chdir(tmp_path / "survey")
    monkeypatch.delenv("J", raising=False)
    return tmp_path / "survey"
