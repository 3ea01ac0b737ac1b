"""Subcommands of butler: the reference's README as it is typed, with our instrument class."""

import shlex

import pytest
import yaml
from click.testing import CliRunner
from lsst.daf.butler.cli.butler import UncachedButlerCLI, cli

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.cli import butler_plugin
from proc_decam_dagster.cli.main import main as proc_decam
from proc_decam_dagster.repository import open_repository
from tests.repository.conftest import make_exposures

CAMERA = "proc_decam_dagster.instrument.DarkEnergyCamera"


def butler(line: str):
    """Run a line of ``butler`` as it is typed."""
    return CliRunner().invoke(cli, shlex.split(line))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory of its own: the README's paths are relative."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def readme(folder):
    """A repository made by the README's first three commands."""
    for line in (
        "create ./repo",
        f"register-instrument ./repo {CAMERA}",
        f"write-curated-calibrations ./repo {CAMERA}",
    ):
        result = butler(line)
        assert result.exit_code == 0, result.output
    return folder / "repo"


def test_the_readmes_commands_make_a_whole_repository(readme):
    result = butler("register-skymap ./repo -c name='discrete'")
    assert result.exit_code == 0, result.output
    repo = open_repository(readme)
    assert len(repo.butler().query_datasets("crosstalk", "DECam/calib", find_first=False)) == len(DETECTORS)
    assert repo.settings.skymap == "discrete"
    assert repo.butler().get("skyMap", skymap="discrete", collections="skymaps").name == "discrete"
    assert "DecamImage" in yaml.safe_load((readme / "butler.yaml").read_text())["storageClasses"]


@pytest.mark.parametrize("commands", [2, 3, 4])
def test_proc_decam_goes_on_where_the_plain_commands_stop(folder, commands):
    """A plain `butler create` knows nothing of our storage classes: whichever of ours comes first adds them."""
    for line in (
        "create ./repo",
        f"register-instrument ./repo {CAMERA}",
        f"write-curated-calibrations ./repo {CAMERA}",
        "register-skymap ./repo -c name='discrete'",
    )[:commands]:
        assert butler(line).exit_code == 0
    make_exposures(folder / "data" / "images").write(folder / "data" / "exposures.ecsv")
    for line in (
        "ingest ./data/exposures.ecsv -b ./repo",
        "raw ./repo bias 20190401",
        "raw ./repo drp 20190401",
        "skymap ./repo ./data/exposures.ecsv --name survey",
        "define-visits ./repo 20190401",
        "collection ./repo drp 20190401",
        "qgraph -b ./repo -p pipelines/bias.yaml#step1 -i 20190401/bias/raw",
    ):
        result = CliRunner().invoke(proc_decam, shlex.split(line))
        assert result.exit_code == 0, f"{line}\n{result.output}"


def test_raws_and_visits(readme):
    butler("register-skymap ./repo -c name='discrete'")
    make_exposures(readme.parent / "images", "zs")
    result = butler("ingest-raws ./repo " + " ".join(str(p) for p in (readme.parent / "images").iterdir()))
    assert result.exit_code == 0, result.output
    assert "2 of 2 files ingested" in result.output
    for expected in ("1 visits defined", "0 visits defined, 1 were there"):
        result = butler("define-visits ./repo DECam")
        assert result.exit_code == 0, result.output
        assert expected in result.output


def test_bad_raw_is_named_and_the_others_go_on(readme):
    make_exposures(readme.parent / "images", "z")
    (readme.parent / "bad.fits").write_bytes(b"nothing")
    (good,) = (readme.parent / "images").iterdir()
    result = butler(f"ingest-raws ./repo bad.fits {good}")
    assert result.exit_code == 1
    assert "bad.fits is not a FITS file" in result.output
    assert "1 of 2 files ingested" in result.output


def test_skymap_that_fits_a_table(readme):
    make_exposures(readme.parent / "images").write(readme.parent / "exposures.ecsv")
    result = butler("register-skymap ./repo -c name=survey -c exposures=exposures.ecsv")
    assert result.exit_code == 0, result.output
    repo = open_repository(readme)
    assert (repo.settings.skymap, repo.settings.skymap_fits) == ("survey", True)


def test_skymap_settings_from_a_file(readme):
    (readme.parent / "skymap.yaml").write_text("name: sky\nkind: rings\n")
    result = butler("register-skymap ./repo -C skymap.yaml")
    assert result.exit_code == 0, result.output
    assert open_repository(readme).settings.skymap == "sky"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("write-curated-calibrations ./none DECam", "is no Butler repository"),
        ("write-curated-calibrations ./repo lsst.obs.subaru.HyperSuprimeCam", "expected DECam"),
        ("register-skymap ./repo -c name", "expected NAME=VALUE"),
        ("register-skymap ./repo -c colour=red", "setting colour is unknown"),
        ("register-skymap ./repo -c kind=dodeca", "kind dodeca is unknown"),
        ("register-skymap ./repo -c exposures=none.ecsv", "none.ecsv does not exist"),
        ("define-visits ./repo HSC", "expected DECam"),
    ],
)
def test_mistakes_are_one_line(readme, line, message):
    result = butler(line)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", butler_plugin.get_cli_subcommands(), ids=lambda c: c.name)
def test_help_has_an_example(command):
    result = butler(f"{command.name} --help")
    assert result.exit_code == 0
    assert f"Example: butler {command.name}" in " ".join(result.output.split())


def test_commands_are_found_through_the_entry_point():
    commands = UncachedButlerCLI(name="butler")._getCommands()
    for command in butler_plugin.get_cli_subcommands():
        assert len(commands[command.name]) == 1


def test_beside_a_stack_nothing_is_offered(monkeypatch):
    """The middleware refuses a command that two packages offer: all of butler would fail."""
    monkeypatch.setattr(butler_plugin, "_stack_is_there", lambda: True)
    assert butler_plugin.get_cli_subcommands() == []
