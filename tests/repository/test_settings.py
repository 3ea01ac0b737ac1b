"""Settings: written whole, read back, mistakes named."""

import os

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.settings import Settings, read_settings, write_settings


def test_no_file_means_defaults(tmp_path):
    assert read_settings(tmp_path / "settings.yaml") == Settings()


def test_written_and_read_back(tmp_path):
    settings = Settings(
        "deep", "discrete", True, "2019-04-01T00:00:00+00:00", {"2019/min/coadd/inputs": {"nights": ["a"]}}
    )
    write_settings(settings, tmp_path / "state" / "settings.yaml")
    assert read_settings(tmp_path / "state" / "settings.yaml") == settings
    assert os.listdir(tmp_path / "state") == ["settings.yaml"]


@pytest.mark.parametrize("text", ["colour: red\n", "skymap: [\n", "[1, 2]\n", "7\n"])
def test_file_that_is_no_settings(tmp_path, text):
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(SurveyError, match="settings.yaml"):
        read_settings(tmp_path / "settings.yaml")
