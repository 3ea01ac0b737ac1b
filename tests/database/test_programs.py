"""Which PostgreSQL is used, and what is said where there is none."""

import pytest

from proc_decam_dagster.database import programs
from proc_decam_dagster.errors import SurveyError


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "FOLDERS", (str(tmp_path / "*" / "bin"),))
    monkeypatch.setattr(programs.shutil, "which", lambda name: None)
    monkeypatch.setattr(programs.sys, "prefix", str(tmp_path / "absent"))
    return tmp_path


def install(folder, version):
    (folder / "bin").mkdir(parents=True)
    for name in programs.NEEDED:
        (folder / "bin" / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version} (Debian)'\n")
        (folder / "bin" / name).chmod(0o755)


def test_absent_postgres_names_the_package(nowhere):
    with pytest.raises(SurveyError, match=r"apt-get install postgresql.*conda install"):
        programs.find_programs()


def test_the_newest_or_the_one_that_made_the_cluster(nowhere):
    for version in ("12.9", "15.14", "17.2"):
        install(nowhere / version, version)
    assert programs.find_programs().version == "17.2"
    assert programs.find_programs(15).folder == nowhere / "15.14" / "bin"
    with pytest.raises(SurveyError, match="postgresql-16"):
        programs.find_programs(16)


def test_a_half_installed_one_is_passed_over(nowhere):
    install(nowhere / "16", "16.1")
    (nowhere / "16" / "bin" / "initdb").unlink()
    with pytest.raises(SurveyError, match="not installed"):
        programs.find_programs()
