"""A new repository: configuration, instrument, curated calibrations, skymaps."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from astropy.table import Table
from lsst.daf.butler import Butler, Config
from sqlalchemy.exc import SQLAlchemyError
from yaml import YAMLError

from proc_decam_dagster.errors import SurveyError, disk_full
from proc_decam_dagster.repository import engines
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.repository.skymap import add_discrete_skymap, register_skymap, require_pointings


def create_repository(
    root: str | os.PathLike,
    *,
    engine: str = engines.EMBEDDED,
    exposures: Table | None = None,
    registry_db: str | None = None,
    seed: str | os.PathLike | None = None,
) -> Repository:
    """Make a repository with its instrument, curated calibrations and a skymap: the whole sky's in rings.

    Parameters
    ----------
    root : path-like
        Folder that does not exist, or holds no repository.
    engine : `str`
        ``embedded`` or ``science-pipelines``.
    exposures : `astropy.table.Table`, optional
        Makes a discrete skymap that fits them instead.
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
        raise SurveyError(
            f"{repository.root} is a Butler repository already",
            "a folder without one",
            "go on with it, or name another",
        )
    if repository.root.exists() and not repository.root.is_dir():
        raise SurveyError(f"{repository.root} is a file", "a folder, or a path where there is nothing", "name another")
    if exposures is not None:
        require_pointings(exposures)
    made_with = engines.engine(engine)
    made_with.require()
    config = Config(made_with.seed_config())
    if seed is not None:
        config.update(_read_seed(seed))
    if registry_db:
        config["registry", "db"] = registry_db
    before = set(repository.root.iterdir()) if repository.root.is_dir() else None
    try:
        # Forcing the root would put a SQLite registry that lies elsewhere back into the repository.
        Butler.makeRepo(str(repository.root), config=config, forceConfigRoot=registry_db is None)
        butler = repository.butler(writeable=True)
        made_with.register_instrument(butler)
        made_with.write_curated_calibrations(butler)
        repository.update_settings(survey=repository.root.name, created=datetime.now(UTC).isoformat(timespec="seconds"))
        if exposures is not None:
            add_discrete_skymap(repository, exposures)
        else:  # not beside the other: with the stack, the rows of the whole sky take minutes to insert
            register_skymap(repository, made_with.rings_skymap(), fits=False)
    except BaseException as error:
        repository.close()
        _remove_new(repository.root, before)
        if disk_full(error) is None and isinstance(error, (SQLAlchemyError, NotADirectoryError, FileNotFoundError)):
            raise SurveyError(
                f"{repository.root} cannot be made: {' '.join(str(error).split())[:300]}",
                "a folder that can be written" + (" and a registry that answers" if registry_db else ""),
                "correct the path" + (" or --registry-db" if registry_db else ""),
            ) from error
        raise
    return repository


def _read_seed(path: str | os.PathLike) -> Config:
    try:
        return Config(os.fspath(path))
    except (YAMLError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise SurveyError(
            f"seed configuration {path} cannot be read ({' '.join(str(error).split())})",
            "Butler configuration in YAML", "mend the file",
        ) from error  # fmt: skip


def _remove_new(root: Path, before: set[Path] | None) -> None:
    """Remove what a failed `create_repository` has put into a folder; the folder too if it was not there."""
    if before is None:
        shutil.rmtree(root, ignore_errors=True)
        return
    for path in set(root.iterdir()) - before:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
