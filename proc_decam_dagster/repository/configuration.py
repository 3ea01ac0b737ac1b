"""A repository's ``butler.yaml``: what an engine needs in it, also where a plain ``butler create`` has written it."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from lsst.daf.butler import ButlerConfig
from lsst.daf.butler.registry import RegistryConfig

from proc_decam_dagster.repository import engines
from proc_decam_dagster.repository.settings import write_whole

CONFIG = "butler.yaml"


def read_configuration(root: str | os.PathLike) -> ButlerConfig:
    """Return a repository's configuration with the Butler's defaults, read once while its file stays as it is.

    To read it takes longer than to ask the registry.
    """
    return _read(str(root), _state(root))


def registry_configuration(root: str | os.PathLike) -> RegistryConfig:
    """Return a repository's configuration of its registry, read once while its file stays as it is."""
    return _registry(str(root), _state(root))


def _state(root: str | os.PathLike) -> tuple[int, ...]:
    """Return what tells one ``butler.yaml`` from another in its place; nothing where there is none."""
    path = Path(root) / CONFIG
    if not path.is_file():
        return ()
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _read(root: str, state: tuple[int, ...]) -> ButlerConfig:
    return ButlerConfig(root)


@lru_cache(maxsize=16)
def _registry(root: str, state: tuple[int, ...]) -> RegistryConfig:
    return RegistryConfig(_read(root, state))


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
