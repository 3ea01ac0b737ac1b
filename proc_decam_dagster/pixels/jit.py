"""Compilation settings of numba kernels: a cache that survives read-only installs, and NaN-safe fast arithmetic.

Numba is imported when the first kernel is called: those who only build graphs of what is done already never need it.
"""

import os
import tempfile
from collections.abc import Callable
from functools import cache, cached_property, update_wrapper
from pathlib import Path
from typing import Any

NAN_SAFE_FASTMATH = {"contract", "reassoc", "arcp", "nsz"}
"""Liberties that change rounding only. ``nnan`` and ``ninf`` stay out: NaN and inf mean "no value" in our arrays."""

_OURS = f"{__package__}.jit_cache"
LOCATORS = f"{_OURS}.ChosenFolder,{_OURS}.BesideTheSource,UserWideCacheLocator,IPythonCacheLocator,ZipCacheLocator"
"""Numba's own list of what finds a kernel on disk, with the first two by ours (see `jit_cache`)."""


def _writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, or in its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def cache_dir(package: Path, home: Path, temporary: Path) -> Path | None:
    """Return where compiled kernels are kept, or `None` for numba's own choice (``__pycache__`` beside the source).

    Parameters
    ----------
    package, home, temporary : `pathlib.Path`
        This package's folder, the user's cache folder, and the last resort where neither is writable (a container
        with a read-only root, a batch node without a home): numba would refuse to compile there.
    """
    if _writable(package):
        return None
    return home / "proc-decam" / "numba" if _writable(home) else temporary / f"proc-decam-numba-{os.getuid()}"


@cache
def _numba() -> Any:
    """Import numba, and tell it where compiled kernels are kept, and when they are out of date."""
    import numba

    if not numba.config.CACHE_LOCATOR_CLASSES:  # else NUMBA_CACHE_LOCATOR_CLASSES: the user has chosen
        numba.config.CACHE_LOCATOR_CLASSES = LOCATORS
    if not numba.config.CACHE_DIR:  # else NUMBA_CACHE_DIR: the user has chosen
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME") or "/nonexistent") / ".cache")
        if folder := cache_dir(Path(__file__).parent, home, Path(tempfile.gettempdir())):
            numba.config.CACHE_DIR = str(folder)
    return numba


class Kernel:
    """A function that numba compiles when it is first called, from Python or by another kernel."""

    def __init__(self, function: Callable, settings: dict[str, Any]) -> None:
        self._function, self._settings = function, settings
        update_wrapper(self, function)

    @cached_property
    def _dispatcher(self) -> Any:
        return _numba().njit(**self._settings)(self._function)

    @property
    def _numba_type_(self) -> Any:
        """What numba takes this for where another kernel names it."""
        return self._dispatcher._numba_type_

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._dispatcher(*arguments, **named)


def jit(function: Callable | None = None, **options: Any) -> Callable:
    """Compile a kernel: cached on disk, without the GIL, with NaN-safe fast arithmetic.

    Use as ``@jit`` or, with numba options that override ours, ``@jit(fastmath=False)``.
    """
    settings = {"cache": True, "nogil": True, "fastmath": NAN_SAFE_FASTMATH, "error_model": "numpy"} | options
    return Kernel(function, settings) if function is not None else lambda given: Kernel(given, settings)
