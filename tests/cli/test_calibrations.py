"""Whose calibrations nights are processed with: shown, set, taken back, by command lines on a real repository."""

import pytest

from proc_decam_dagster.repository import Repository

from .conftest import NIGHTS, TESTS, load, proc_decam

FIRST, SECOND = NIGHTS


@pytest.fixture
def repo(survey):
    """The survey's repository with a bias of both nights and a flat of the first."""
    make_masters = load(TESTS / "repository" / "conftest.py").make_masters
    repository = Repository(survey / "repo")
    for night, name in ((FIRST, "bias"), (SECOND, "bias"), (FIRST, "flat")):
        make_masters(repository, night, name)
    yield repository
    repository.close()


def shown(*nights) -> list[str]:
    """Return the lines of `calibrations show`, single-spaced."""
    lines = proc_decam(f"calibrations show ./repo {' '.join(nights)}").stdout.splitlines()
    return [" ".join(line.split()) for line in lines]


def test_set_and_unset(repo):
    assert shown() == ["night bias flat", f"{FIRST} own own", f"{SECOND} own none"]
    line = f"calibrations set ./repo {SECOND} --detector 25 --from {FIRST} --why 'tape bump'"
    out = proc_decam(line).stdout
    assert f"night {SECOND}: bias of detectors 25 from night {FIRST}" in out
    assert f"night {SECOND}: flat of detectors 25 from night {FIRST}" in out and "--no-skip-existing" in out
    lines = shown(SECOND)
    assert lines[1] == f"{SECOND} own, {FIRST} (1 day earlier) for detector 25 {FIRST} (1 day earlier)"
    assert lines[4].startswith(f"{SECOND} bias 25 {FIRST}") and lines[4].endswith("tape bump")

    assert "no longer from another night" in proc_decam(f"calibrations unset ./repo {SECOND} --type flat").stdout
    assert shown(SECOND)[1] == f"{SECOND} own, {FIRST} (1 day earlier) for detector 25 none"
    assert proc_decam("calibrations apply ./repo").stdout == "nothing to change\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"set ./repo {FIRST} --from 20190409", "night 20190409 has no certified bias of its own; expected a night"),
        (f"set ./repo {FIRST} --from {SECOND} --type flat", f"night {SECOND} has no certified flat of its own"),
        (f"set ./repo {FIRST} --from {SECOND} --type dark", "is about 'dark'; expected one of bias, flat"),
        (f"set ./repo {SECOND} --from {FIRST} --type bias flta", "is about 'flta'"),
        (f"set ./repo {FIRST} --from {FIRST}", "from itself"),
        (f"set ./repo {FIRST} --from {SECOND} --detector S29", "--detector S29; expected numbers of CCDs"),
        (f"set ./repo 2019 --from {SECOND}", "'2019' is no night"),
    ],
)
def test_mistakes_change_nothing(repo, line, told):
    result = proc_decam(f"calibrations {line}", 1)
    assert result.stderr.splitlines()[-1].startswith("error: ") and told in result.stderr
    assert shown()[1:] == [f"{FIRST} own own", f"{SECOND} own none"]


def test_a_missing_flat_stops_and_names_the_option_that_uses_another_nights(repo):
    images = "--image-dir ./data/images"
    result = proc_decam(f"night ./repo ./data/exposures.ecsv --nights {SECOND} --proc-types drp {images}", 1)
    assert f"night {SECOND} has no certified flat; expected what its raws are calibrated with" in result.stderr
    assert f"nearest usable {FIRST} (1 day earlier)" in result.stderr
    assert f"--calib-from flat={FIRST}" in result.stderr and "drp" in result.stdout.splitlines()[-1]
