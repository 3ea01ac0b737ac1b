"""A repository's ``butler.yaml``: what an engine needs in it, also where a plain ``butler create`` has written it."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from lsst.daf.butler import ButlerConfig

from proc_decam_dagster.repository import engines
from proc_decam_dagster.repository.settings import write_whole

CONFIG = "butler.yaml"


def read_configuration(root: str | os.PathLike) -> ButlerConfig:
    """Return a repository's configuration with the Butler's defaults, read once while its file stays as it is.

    To read it takes longer than to ask the registry.
    """
    path = Path(root) / CONFIG
    return _read(str(root), path.stat().st_mtime_ns) if path.is_file() else ButlerConfig(str(root))


@lru_cache(maxsize=16)
def _read(root: str, changed: int) -> ButlerConfig:
    return ButlerConfig(root)


def complete_configuration(root: str | os.PathLike, engine: engines.Engine) -> bool:
    """Add what the engine needs to a repository's ``butler.yaml``; return whether anything was missing.

    A plain ``butler create`` makes a repository that does not know our storage classes. Entries that are there
    already are left as they are.
    """
    path = Path(root) / CONFIG
    if not path.is_file():  # a label of the Butler's index, or a remote repository
        return False
    config = yaml.safe_load(path.read_text()) or {}
    if not _add_missing(config, engine.seed_config()):
        return False
    write_whole(path, yaml.safe_dump(config, sort_keys=False))
    return True


def _add_missing(config: dict[str, Any], wanted: Mapping[str, Any]) -> bool:
    changed = False
    for key, value in wanted.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            changed |= _add_missing(config[key], value)
        elif key not in config:
            config[key] = value
            changed = True
    return changed
