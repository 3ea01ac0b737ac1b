"""What a repository is set to: its survey, its one skymap, the coadd subsets; kept as YAML beside the Butler's data."""

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from proc_decam_dagster.errors import SurveyError


@dataclass
class Settings:
    """Settings of a repository.

    Attributes
    ----------
    survey : `str`
        Name of the survey.
    skymap : `str`
        Name of the one skymap that every graph's query gets.
    skymap_fits : `bool`
        Whether that skymap was made to fit the survey's exposures.
    created : `str`
        When the repository was made, ISO 8601 UTC.
    coadd_inputs : `dict`
        Coadd inputs collection → its nights and `where`.
    """

    survey: str = ""
    skymap: str = ""
    skymap_fits: bool = False
    created: str = ""
    coadd_inputs: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_settings(path: Path) -> Settings:
    """Read settings; defaults where there is no file.

    Raises
    ------
    SurveyError
        If the file is no mapping of known settings.
    """
    if not path.is_file():
        return Settings()
    known = {f.name for f in fields(Settings)}
    try:
        values = yaml.safe_load(path.read_text()) or {}
        unknown = sorted(set(values) - known)
    except (yaml.YAMLError, TypeError) as error:
        raise SurveyError(f"{path} cannot be read ({error})", f"a YAML mapping of {', '.join(sorted(known))}") from None
    if unknown:
        raise SurveyError(f"{path} has unknown settings {', '.join(map(str, unknown))}", ", ".join(sorted(known)))
    return Settings(**values)


def write_settings(settings: Settings, path: Path) -> None:
    """Write settings; the file appears whole or not at all."""
    write_whole(path, yaml.safe_dump(asdict(settings), sort_keys=False))


def write_whole(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
