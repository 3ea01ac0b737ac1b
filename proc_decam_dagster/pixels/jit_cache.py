"""When a compiled kernel that is kept on disk is out of date: when its file, or one that the file imports, changed.

Numba looks at the kernel's own file alone. But a kernel holds what it calls and the constants that it names, from
whatever file of ours, and kernels outlive an upgrade of the package: without this, they would go on computing as
before it.

Imported by numba, which is told the classes' names (`jit.LOCATORS`).
"""

import hashlib
import re
from functools import cache
from pathlib import Path

from numba.core import caching

_PACKAGE = __name__.split(".", 1)[0]
_IMPORT = re.compile(rf"^\s*from ({_PACKAGE}[\w.]*) import (\([^)]*\)|.*)$".encode(), re.MULTILINE)


@cache
def imported(path: Path) -> frozenset[Path]:
    """Return the files of our package that a source file imports, as far as it does so by ``from … import``."""
    root = Path(__file__).parents[__name__.count(".")]
    found = set()
    for package, names in _IMPORT.findall(path.read_bytes()):
        folder = root.joinpath(*package.decode().split("."))
        found.add(folder.with_suffix(".py"))
        found |= {folder / f"{name}.py" for name in re.findall(r"\w+", names.decode())}
    return frozenset(filter(Path.is_file, found))


@cache
def stamp(path: Path) -> str:
    """Return a digest of a source file and of all files of ours that it imports, directly or not."""
    known, new = set(), {path}
    while new:
        known |= new
        new = set().union(*map(imported, new)) - known
    return hashlib.sha256(b"".join(hashlib.sha256(each.read_bytes()).digest() for each in sorted(known))).hexdigest()


class _Stamped:
    def get_source_stamp(self):
        """Return what a kept kernel must have been made of; numba's own stamp of a kernel that holds nothing of ours.

        Other libraries' kernels are kept beside their source for processes without us too.
        """
        path = Path(self._py_file)
        return stamp(path) if imported(path) else super().get_source_stamp()


class ChosenFolder(_Stamped, caching.UserProvidedCacheLocator):
    """Keeps kernels where NUMBA_CACHE_DIR says."""


class BesideTheSource(_Stamped, caching.InTreeCacheLocator):
    """Keeps kernels in ``__pycache__``."""
