"""Which file a pipeline's name means."""

from types import SimpleNamespace

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import pipelines
from proc_decam_dagster.execution.pipelines import packaged_folder, pipeline_path, split_fragment

REPOSITORY = SimpleNamespace(engine=SimpleNamespace(pipeline_folder="embedded"))


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package with two pipelines."""
    folder = tmp_path / "package" / "pipelines" / "embedded"
    folder.mkdir(parents=True)
    for name in ("bias.yaml", "DRP.yaml", "_visit.yaml"):
        (folder / name).touch()
    monkeypatch.setattr(pipelines, "_PACKAGE", tmp_path / "package")
    return folder


@pytest.mark.parametrize("name", ["bias.yaml", "pipelines/bias.yaml"])
def test_packaged_names_mean_the_packaged_file_anywhere(packaged, name, tmp_path, monkeypatch):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "bias.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert pipeline_path(REPOSITORY, name) == str(packaged / "bias.yaml")
    assert pipeline_path(REPOSITORY, f"{name}#step1") == f"{packaged / 'bias.yaml'}#step1"


def test_other_paths_are_literal(packaged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "mine" / "bias.yaml"
    own.parent.mkdir()
    own.touch()
    assert pipeline_path(REPOSITORY, "mine/bias.yaml") == str(own)
    assert pipeline_path(REPOSITORY, "./mine/bias.yaml#step2") == f"{own}#step2"
    assert pipeline_path(REPOSITORY, own) == str(own)
    with pytest.raises(SurveyError, match="./bias.yaml does not exist"):
        pipeline_path(REPOSITORY, "./bias.yaml")


def test_pipeline_dir_overrides_what_it_holds(packaged, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "DRP.yaml").touch()
    assert pipeline_path(REPOSITORY, "DRP.yaml#step2a", own) == f"{own / 'DRP.yaml'}#step2a"
    assert pipeline_path(REPOSITORY, "bias.yaml", own) == str(packaged / "bias.yaml")
    with pytest.raises(SurveyError, match="does not exist"):
        pipeline_path(REPOSITORY, "bias.yaml", tmp_path / "nowhere")


def test_unknown_name_lists_those_there_are(packaged):
    with pytest.raises(SurveyError, match=r"one of DRP.yaml, bias.yaml$"):
        pipeline_path(REPOSITORY, "bais.yaml")


def test_checkout_is_found_where_the_package_holds_no_files(packaged, tmp_path, monkeypatch):
    monkeypatch.setattr(pipelines, "_PACKAGE", tmp_path / "package" / "inner")
    assert packaged_folder("embedded") == packaged
    with pytest.raises(SurveyError, match="not installed"):
        packaged_folder("other")


def test_fragment():
    assert split_fragment("a/b.yaml#step2a") == ("a/b.yaml", "step2a")
    assert split_fragment("b.yaml") == ("b.yaml", "")
