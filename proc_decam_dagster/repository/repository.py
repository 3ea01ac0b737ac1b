"""A repository opened: the Butler, the engine that made it, its settings, its exposure table, its locks."""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from astropy.table import Table
from lsst.daf.butler import Butler
from sqlalchemy.exc import SQLAlchemyError
from yaml import YAMLError

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.locks import file_lock, is_locked
from proc_decam_dagster.repository.configuration import complete_configuration, read_configuration
from proc_decam_dagster.repository.engines import INSTRUMENT, Engine, engine_of_instrument
from proc_decam_dagster.repository.journals import roll_back_what_was_killed
from proc_decam_dagster.repository.settings import Settings, read_settings, write_settings
from proc_decam_dagster.repository.upserts import send_upserts_in_pages
from proc_decam_dagster.survey.exposures import FILE_NAME, holds_rows, merge_exposures, read_exposures, write_exposures

STATE_FOLDER = "proc_decam"
SHORT_WAIT_SECONDS = 30.0
"""How long a change of a small state file waits for another one."""


class Repository:
    """A Butler repository of a survey.

    Made by `open_repository` or `create_repository`; safe to use from several threads, and after a fork.

    Attributes
    ----------
    root : `pathlib.Path`
        Absolute.
    state_dir : `pathlib.Path`
        Our own records beside the Butler's: settings, exposure table, locks, attempts.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root).expanduser().resolve()
        self.state_dir = self.root / STATE_FOLDER
        self._butlers: dict[tuple[int, int, bool], Butler] = {}
        self._engine: Engine | None = None
        self._exposures: tuple[int, Table] | None = None

    def __repr__(self) -> str:
        return f"Repository({str(self.root)!r})"

    def __reduce__(self):
        return (Repository, (str(self.root),))

    def butler(self, writeable: bool = False) -> Butler:
        """Return the Butler, opened once a thread; it sees what others have written since."""
        key = (os.getpid(), threading.get_ident(), writeable)
        if key not in self._butlers:
            send_upserts_in_pages()
            roll_back_what_was_killed()
            self._butlers[key] = Butler.from_config(read_configuration(self.root), writeable=writeable)
        else:
            self._butlers[key].registry.refresh()
        return self._butlers[key]

    def close(self) -> None:
        """Close the Butlers that this process has opened."""
        for key in [k for k in self._butlers if k[0] == os.getpid()]:
            self._butlers.pop(key).close()

    @property
    def engine(self) -> Engine:
        """The engine, decided by the registered instrument's class.

        Raises
        ------
        SurveyError
            If no instrument is registered, or one of an engine that is unknown here.
        """
        if self._engine is None:
            found = self.butler().query_dimension_records(
                "instrument", where=f"instrument='{INSTRUMENT}'", explain=False
            )
            if not found:
                raise SurveyError(
                    f"{self.root} has no instrument {INSTRUMENT}",
                    fix=f"run `butler register-instrument {self.root} proc_decam_dagster.instrument.DarkEnergyCamera`",
                )
            self._engine = engine_of_instrument(found[0].class_name)
        return self._engine

    @property
    def settings(self) -> Settings:
        """The settings as they stand on disk."""
        return read_settings(self._settings_path)

    def update_settings(self, **changes: Any) -> Settings:
        """Change settings by name and return them all."""
        with self.lock("settings", wait_seconds=SHORT_WAIT_SECONDS):
            settings = replace(self.settings, **changes)
            write_settings(settings, self._settings_path)
        return settings

    @property
    def _settings_path(self) -> Path:
        return self.state_dir / "settings.yaml"

    def exposures(self) -> Table | None:
        """Return the exposures that were ever given to this repository; `None` before the first."""
        path = self.state_dir / FILE_NAME
        if not path.is_file():
            return None
        stamp = path.stat().st_mtime_ns
        if self._exposures is None or self._exposures[0] != stamp:
            self._exposures = (stamp, read_exposures(path))
        return self._exposures[1].copy()

    def known_exposures(self) -> Table:
        """Return the exposure table.

        Raises
        ------
        SurveyError
            If there is none yet.
        """
        table = self.exposures()
        if table is None:
            raise SurveyError(
                f"{self.root} knows no exposures yet",
                fix=f"`proc-decam night {self.root} EXPOSURES_FILE …` reads a table",
            )
        return table

    def remember_exposures(self, table: Table) -> Table:
        """Merge a table into the known exposures, the newer row of a file winning; return them all."""
        with self.lock("exposures", wait_seconds=SHORT_WAIT_SECONDS):
            known = self.exposures()
            if known is not None and holds_rows(known, table):
                return known  # a night is given as often as it is run, and to write a survey's table takes a second
            merged = merge_exposures(known, table)
            write_exposures(merged, self.state_dir / FILE_NAME)
        return merged

    def lock(
        self, name: str, *, wait_seconds: float = 0.0, on_wait: Callable[[str], None] | None = None
    ) -> AbstractContextManager[None]:
        """Return a context that holds the lock of a chain; a thread that holds it may take it again.

        Raises
        ------
        SurveyError
            On entry, if another process still holds it after `wait_seconds`; the message says who.
        """
        return file_lock(self._lock_file(name), name, wait_seconds=wait_seconds, on_wait=on_wait)

    def is_locked(self, name: str) -> bool:
        """Whether a process holds the lock of a chain."""
        return is_locked(self._lock_file(name))

    def _lock_file(self, name: str) -> Path:
        return self.state_dir / "locks" / (name.replace("/", "__") + ".lock")


def open_repository(root: str | os.PathLike) -> Repository:
    """Open a repository; what its engine needs in the configuration is added to one made by a plain ``butler create``.

    Raises
    ------
    SurveyError
        If ``root`` is no Butler repository, cannot be opened, has no DECam, or was made by an engine that is unknown
        here.
    """
    repository = Repository(root)
    if not repository.root.is_dir() or not Butler.has_repo_config(str(repository.root)):
        raise SurveyError(
            f"{repository.root} is no Butler repository",
            "a folder with a butler.yaml",
            "give another folder" if repository.root.is_file() else f"`proc-decam create {repository.root}` makes one",
        )
    try:
        completed = complete_configuration(repository.root, repository.engine)
    except (YAMLError, SQLAlchemyError, FileNotFoundError) as error:
        fix = "restore them from a backup, or make a new repository with `proc-decam create`"
        if isinstance(error, SQLAlchemyError) and (repository.root / "_registry").is_dir():
            fix = f"`proc-decam db status {repository.root}` shows its state, `proc-decam db start` starts it"
        raise SurveyError(
            f"{repository.root} cannot be opened: {' '.join(str(getattr(error, 'orig', error)).split())[:300]}",
            "a readable butler.yaml and a registry that answers",
            fix,
        ) from error
    if completed:
        repository.close()
    return repository
