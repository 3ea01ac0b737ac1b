"""A new repository: configuration, instrument, curated calibrations, skymaps; the same for one begun by `butler`."""

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from astropy.table import Table
from lsst.daf.butler import Butler, Config

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import engines
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.repository.settings import write_whole
from proc_decam_dagster.repository.skymap import add_discrete_skymap, register_skymap

CONFIG = "butler.yaml"


def create_repository(
    root: str | os.PathLike,
    *,
    engine: str = engines.EMBEDDED,
    exposures: Table | None = None,
    registry_db: str | None = None,
    seed: str | os.PathLike | None = None,
) -> Repository:
    """Make a repository with its instrument, curated calibrations and the rings skymap.

    Parameters
    ----------
    root : path-like
        Folder that does not exist, or holds no repository.
    engine : `str`
        ``embedded`` or ``science-pipelines``.
    exposures : `astropy.table.Table`, optional
        Makes a discrete skymap that fits them, which becomes the survey's.
    registry_db : `str`, optional
        SQLAlchemy URI of the registry; a SQLite file in the repository if not given.
    seed : path-like, optional
        YAML file of Butler configuration, applied over the engine's.

    Raises
    ------
    SurveyError
        If there is a repository already, or the engine is not installed; nothing half-made is left in a new folder.
    """
    repository = Repository(root)
    if Butler.has_repo_config(str(repository.root)):
        raise SurveyError(f"{repository.root} is a Butler repository already", "a folder without one")
    if repository.root.exists() and not repository.root.is_dir():
        raise SurveyError(f"{repository.root} is a file", "a folder, or a path where there is nothing")
    made_with = engines.engine(engine)
    config = Config(made_with.seed_config())
    if seed is not None:
        config.update(Config(os.fspath(seed)))
    if registry_db:
        config["registry", "db"] = registry_db
    ours = not repository.root.exists() or not any(repository.root.iterdir())
    try:
        # Forcing the root would put a SQLite registry that lies elsewhere back into the repository.
        Butler.makeRepo(str(repository.root), config=config, forceConfigRoot=registry_db is None)
        butler = repository.butler(writeable=True)
        made_with.register_instrument(butler)
        made_with.write_curated_calibrations(butler)
        repository.update_settings(survey=repository.root.name, created=datetime.now(UTC).isoformat(timespec="seconds"))
        register_skymap(repository, made_with.rings_skymap(), fits=False)
        if exposures is not None:
            add_discrete_skymap(repository, exposures)
    except BaseException:
        repository.close()
        if ours:
            shutil.rmtree(repository.root, ignore_errors=True)
        raise
    return repository


def complete_configuration(root: str | os.PathLike, engine: engines.Engine) -> bool:
    """Add what the engine needs to a repository's ``butler.yaml``; return whether anything was missing.

    A plain ``butler create`` makes a repository that does not know our storage classes. Entries that are there
    already are left as they are.
    """
    path = Path(root) / CONFIG
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
