"""The repository as a resource: opened once a process, and anew where another one has been made in its place."""

import shutil

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.resources import ButlerRepository


def test_an_asset_and_its_checks_share_one(tmp_path):
    resource = ButlerRepository(root=str(tmp_path / "repo"))
    made = resource.ensure()
    assert made.butler().collections.query("DECam/calib")
    first = resource.open()
    assert ButlerRepository(root=str(tmp_path / "repo")).open() is first
    shutil.copytree(tmp_path / "repo", tmp_path / "copy")
    shutil.rmtree(tmp_path / "repo")
    with pytest.raises(SurveyError, match="is no Butler repository"):
        resource.open()
    shutil.move(tmp_path / "copy", tmp_path / "repo")
    again = resource.open()
    assert again is not first and again.butler().collections.query("DECam/calib")
    again.close()
