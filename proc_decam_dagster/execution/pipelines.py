"""Which file a pipeline's name means."""

import os
from pathlib import Path

from proc_decam_dagster.errors import SurveyError

_PACKAGE = Path(__file__).resolve().parents[1]


def packaged_folder(below: str = "embedded") -> Path:
    """Return the folder of an engine's own pipelines: in an installed wheel, or at the top of a checkout.

    Parameters
    ----------
    below : `str`, optional
        The engine's folder within ``pipelines``; ``""`` or ``"."`` for that folder itself.
    """
    folders = [top / "pipelines" / below for top in (_PACKAGE, _PACKAGE.parent)]
    for folder in folders:
        if any(folder.glob("*.yaml")):
            return folder
    raise SurveyError(
        "this engine's pipelines are not installed", f"YAML files in {folders[0]}", "install the package again"
    )


def split_fragment(name: str | os.PathLike) -> tuple[str, str]:
    """Return a pipeline's file and the step that follows its ``#``, empty if none does."""
    path, _, step = os.fspath(name).partition("#")
    return path, step


def pipeline_path(repository, name: str | os.PathLike, pipeline_dir: str | os.PathLike | None = None) -> str:
    """Return the absolute path of a pipeline, with the ``#step`` of its name if there was one.

    Parameters
    ----------
    repository : `Repository`
        Its engine decides whose pipelines are meant.
    name : `str` or `os.PathLike`
        ``NAME.yaml`` or ``pipelines/NAME.yaml``: the packaged file, from whatever directory the command is typed.
        Any other path (``./…``, absolute, another folder): that file.
    pipeline_dir : `str` or `os.PathLike`, optional
        A folder searched first for packaged names: a team's own configuration. Files that it lacks are the packaged.

    Raises
    ------
    SurveyError
        If there is no such file.
    """
    path, step = split_fragment(name)
    suffix = f"#{step}" if step else ""
    if path.startswith((".", "~")) or os.path.isabs(path) or Path(path).parent not in (Path(), Path("pipelines")):
        file = Path(path).expanduser().absolute()
        if not file.is_file():
            raise SurveyError(f"pipeline {path} does not exist", "an existing file, or NAME.yaml for a packaged one")
        return f"{file}{suffix}"
    if pipeline_dir is not None:
        own = Path(pipeline_dir).expanduser().absolute()
        if not own.is_dir():
            raise SurveyError(f"pipeline folder {pipeline_dir} does not exist", "a folder of pipeline YAML files")
        if (own / Path(path).name).is_file():
            return f"{own / Path(path).name}{suffix}"
    packaged = packaged_folder(repository.engine.pipeline_folder)
    if not (packaged / Path(path).name).is_file():
        known = sorted(f.name for f in packaged.glob("*.yaml") if not f.name.startswith("_"))
        raise SurveyError(f"pipeline {path} does not exist", f"one of {', '.join(known)}")
    return f"{packaged / Path(path).name}{suffix}"
