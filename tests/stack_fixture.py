"""The stand-ins of the Science Pipelines as if they were set up, in this process and for its children."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from proc_decam_dagster.repository.science_pipelines import release

STAND_INS = Path(__file__).parent / "repository" / "stand_ins"
SHARED = ("lsst", "lsst.pipe")
"""Packages of which one part is installed and another is a stand-in."""
_imported: dict[str, ModuleType] = {}
"""Stand-ins that were imported before: the middleware keeps the classes that it has once looked up."""


@contextmanager
def stack_set_up(monkeypatch, folder: Path) -> Iterator[None]:
    """Let ``lsst.obs.base`` and its like be imported; afterwards they are gone again.

    `folder` is what the environment variables of the EUPS products say.
    """
    packages = {name: importlib.import_module(name) for name in SHARED}
    with monkeypatch.context() as patch:
        for name, package in packages.items():
            below = STAND_INS.joinpath(*name.split("."))
            patch.setattr(package, "__path__", [*package.__path__, str(below)])
        for variable in release.FOLDERS.values():
            patch.setenv(variable, str(folder))
        path = [str(STAND_INS), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        sys.modules.update(_imported)
        importlib.invalidate_caches()
        release._required_once.cache_clear()
        try:
            yield
        finally:
            release._required_once.cache_clear()
            for name in [n for n, m in sys.modules.items() if str(STAND_INS) in (getattr(m, "__file__", "") or "")]:
                _imported[name] = sys.modules.pop(name)
