"""Which stack is set up is told without importing it; another release, or half of one, is refused by name."""

import logging
import shutil
import subprocess
import sys

import pytest
from stack_fixture import STAND_INS, stack_set_up

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.science_pipelines import release
from proc_decam_dagster.repository.science_pipelines.release import find_release, require_release


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """The stand-ins set up, and what EUPS would put into the environment."""
    chains = tmp_path / "stack" / "ups_db" / "lsst_distrib"
    chains.mkdir(parents=True)

    def tagged(version, *tags):
        for tag in tags:
            head = f"FILE = version\nPRODUCT = lsst_distrib\nCHAIN = {tag}\n\n"
            (chains / f"{tag}.chain").write_text(f"{head}   FLAVOR = Linux64\n   VERSION = {version}\n")

    folders = dict.fromkeys(release.FOLDERS.values(), str(tmp_path))
    with stack_set_up(monkeypatch, tmp_path):
        setup = f"lsst_distrib g0b29ad24fb+2c1f -f Linux64 -Z {tmp_path / 'stack'}"
        yield {"SETUP_LSST_DISTRIB": setup, **folders}, tagged


@pytest.fixture
def commits(monkeypatch):
    """Versions as EUPS builds have them: commits, which say nothing of the release."""
    monkeypatch.setattr(release, "_version", lambda folder: "g1a2b3c4d5e+0f1e2d3c4b")


def test_the_release_is_that_of_the_versions(environment):
    found = require_release(environment[0])
    assert (found.releases, found.missing) == ({(30, 0)}, ())
    assert set(found.versions.values()) == {"30.0.4"} and found.versions.keys() == set(release.MODULES)


def test_tags_of_eups_tell_what_versions_that_are_commits_do_not(environment, commits):
    variables, tagged = environment
    tagged("g0b29ad24fb+2c1f", "v30_0_3", "current")
    tagged("gffffffffff+0000", "w_2024_34")  # of another version
    found = require_release(variables)
    assert found.tags == ("current", "v30_0_3") and found.supported
    assert str(found).startswith("lsst_distrib g0b29ad24fb+2c1f (current, v30_0_3), lsst.cp.pipe g1a2")


@pytest.mark.parametrize("tag", ["w_2024_34", "v29_1_1", "v31_0_0_rc1", "d_2026_05_01", "v30_1_0"])
def test_another_release_is_refused(environment, commits, tag):
    variables, tagged = environment
    tagged("g0b29ad24fb+2c1f", tag)
    with pytest.raises(
        SurveyError, match=rf"another release \(lsst_distrib g0b.*{tag}.*expected release v30_0_x.*setup"
    ):
        require_release(variables)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("v30_0_8", (30, 0)), ("v30_0_0_rc2", (30, 0)), ("30.0.4", (30, 0)), ("30.0.4+g12ab", (30, 0)),
        ("30.0.0rc3", (30, 0)), ("29.2025.4800", (0, 2025)), ("w_2026_18", (0, 2026)), ("g1a2b3c+30.0.1", None),
        ("current", None), ("unknown", None), ("30", None),
    ],
)  # fmt: skip
def test_what_tags_and_versions_tell(text, expected):
    assert release._parse(text) == expected


def test_a_stack_of_which_nothing_tells_the_release_is_used_with_a_warning(environment, commits, caplog):
    with caplog.at_level(logging.WARNING):
        require_release(environment[0])
    assert "release of the Science Pipelines is unknown: found lsst_distrib g0b29ad24fb+2c1f (no tag)" in caplog.text


def test_an_incomplete_stack_is_told_by_its_parts(environment):
    variables = environment[0] | {"OBS_DECAM_DATA_DIR": ""}
    with pytest.raises(SurveyError, match="lack obs_decam_data .*found lsst_distrib"):
        require_release(variables)


def test_a_stack_without_a_package_is_told(environment, monkeypatch):
    present = release._location
    monkeypatch.setattr(release, "_location", lambda name: None if name == "lsst.obs.decam" else present(name))
    with pytest.raises(SurveyError, match="lack lsst.obs.decam "):
        require_release(environment[0])


def test_nothing_is_imported_to_find_out(environment):
    script = (
        "import sys; from proc_decam_dagster.repository.science_pipelines import release as r;"
        "print(sorted(r.find_release().versions) == sorted(r.MODULES), set(r.MODULES) & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "set()"]


def test_a_module_that_cannot_be_imported_is_told(environment):
    with pytest.raises(SurveyError, match="lsst.obs.nosuch cannot be imported"):
        release.stack("lsst.obs.nosuch")


def test_the_middleware_alone_is_no_stack(monkeypatch):
    monkeypatch.delenv("SETUP_LSST_DISTRIB", raising=False)
    found = find_release({})
    assert set(found.missing) == {*release.MODULES, *release.FOLDERS} and str(found) == "nothing"
    with pytest.raises(SurveyError, match="which are not set up; expected release v30_0_x"):
        require_release({})


def test_the_stand_ins_name_the_release_that_they_stand_for(tmp_path):
    files = list(STAND_INS.glob("lsst/**/version.py"))
    assert len(files) == len(release.MODULES)
    copied = tmp_path / "version.py"
    shutil.copy(files[0], copied)
    assert release._version(copied.parent) == "30.0.4"
