"""A new repository: configuration, instrument, curated calibrations, skymaps."""

import logging
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

log = logging.getLogger(__name__)

LOCK = "create"
WAIT_SECONDS = 900.0
"""How long to wait for another process that makes the same repository."""


class RepositoryExists(SurveyError):
    """There is a repository already."""


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
    RepositoryExists
        If there is a repository already, also one that another process has just made.
    SurveyError
        If the engine is not installed, or it cannot be made; nothing half-made is left in a new folder.
    """
    repository = Repository(root)
    _require_none(repository.root)
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
    new_folder, new_state = not repository.root.exists(), not repository.state_dir.exists()
    try:
        with repository.lock(LOCK, wait_seconds=WAIT_SECONDS, on_wait=log.info):
            _require_none(repository.root)  # another process may have made it meanwhile
            before = set() if new_folder else set(repository.root.iterdir())
            try:
                _make(repository, config, made_with, exposures, forced=registry_db is None)
            except RepositoryExists:
                raise
            except BaseException:
                repository.close()
                _remove_new(repository.root, before - ({repository.state_dir} if new_state else set()), new_folder)
                raise
    except (SQLAlchemyError, NotADirectoryError, FileNotFoundError) as error:
        if disk_full(error) is not None:
            raise
        raise SurveyError(
            f"{repository.root} cannot be made: {' '.join(str(error).split())[:300]}",
            "a folder that can be written" + (" and a registry that answers" if registry_db else ""),
            "correct the path" + (" or --registry-db" if registry_db else ""),
        ) from error
    return repository


def ensure_repository(root: str | os.PathLike, *, engine: str = engines.EMBEDDED) -> None:
    """Make a repository as `create_repository` does, unless there is one; one that is being made is waited for."""
    try:
        create_repository(root, engine=engine).close()
    except RepositoryExists:
        with Repository(root).lock(LOCK, wait_seconds=WAIT_SECONDS, on_wait=log.info):
            pass


def _require_none(root: Path) -> None:
    if Butler.has_repo_config(str(root)):
        raise RepositoryExists(
            f"{root} is a Butler repository already", "a folder without one", "go on with it, or name another"
        )


def _make(
    repository: Repository, config: Config, made_with: engines.Engine, exposures: Table | None, *, forced: bool
) -> None:
    """Fill a folder with a repository."""
    # Forcing the root would put a SQLite registry that lies elsewhere back into the repository.
    try:
        Butler.makeRepo(str(repository.root), config=config, forceConfigRoot=forced)
    except FileExistsError:  # somebody else's `butler create`, which heeds no lock of ours
        _require_none(repository.root)
        raise
    butler = repository.butler(writeable=True)
    made_with.register_instrument(butler)
    made_with.write_curated_calibrations(butler)
    repository.update_settings(survey=repository.root.name, created=datetime.now(UTC).isoformat(timespec="seconds"))
    if exposures is not None:
        add_discrete_skymap(repository, exposures)
    else:  # not beside the other: with the stack, the rows of the whole sky take minutes to insert
        register_skymap(repository, made_with.rings_skymap(), fits=False)


def _read_seed(path: str | os.PathLike) -> Config:
    try:
        return Config(os.fspath(path))
    except (YAMLError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise SurveyError(
            f"seed configuration {path} cannot be read ({' '.join(str(error).split())})",
            "Butler configuration in YAML", "mend the file",
        ) from error  # fmt: skip


def _remove_new(root: Path, before: set[Path], new_folder: bool) -> None:
    """Remove what a failed `create_repository` has put into a folder; the folder too if it was not there."""
    if new_folder:
        shutil.rmtree(root, ignore_errors=True)
        return
    for path in set(root.iterdir()) - before:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
