"""Which release of the Science Pipelines is set up, told without importing it, and whether it is a supported one."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from proc_decam_dagster.errors import SurveyError

log = logging.getLogger(__name__)

SUPPORTED = (30, 0)
"""The release whose tasks the pipelines of this engine name."""
MODULES = (
    "lsst.obs.base", "lsst.obs.decam", "lsst.geom", "lsst.skymap", "lsst.ip.isr", "lsst.meas.algorithms",
    "lsst.source.injection", "lsst.cp.pipe", "lsst.pipe.tasks", "lsst.drp.tasks", "lsst.ip.diffim",
)  # fmt: skip
"""What the engine calls and its pipelines name; an incomplete stack is told before anything is written."""
FOLDERS = {"obs_decam_data": "OBS_DECAM_DATA_DIR", "cp_pipe": "CP_PIPE_DIR", "drp_pipe": "DRP_PIPE_DIR"}
"""EUPS products that are found by their environment variable: curated calibrations, and the pipelines ours import."""
SET_UP = "`source loadLSST.sh && setup lsst_distrib -t v30_0_3` (any v30_0_x), or use the engine embedded"

_VERSION = re.compile(r"^v?(\d+)[._](\d+)(?=[._+]|rc|$)")
_WEEKLY = re.compile(r"^[wd]_(\d+)_(\d+)")


@dataclass(frozen=True)
class Release:
    """What was found of a stack.

    Attributes
    ----------
    missing : `tuple` [`str`, …]
        Modules and EUPS products that are not there.
    product : `str`
        Version of ``lsst_distrib`` in EUPS; empty if that is not set up.
    tags : `tuple` [`str`, …]
        EUPS tags of that version.
    versions : `dict` [`str`, `str`]
        Module → what its ``version.py`` says.
    """

    missing: tuple[str, ...]
    product: str
    tags: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def releases(self) -> set[tuple[int, int]]:
        """(major, minor) that tags or else versions name; ``(0, …)`` for a weekly; empty if nothing tells."""
        return set(filter(None, map(_parse, self.tags))) or set(filter(None, map(_parse, self.versions.values())))

    @property
    def supported(self) -> bool:
        """Whether all that tells a release tells the supported one."""
        return self.releases == {SUPPORTED}

    def __str__(self) -> str:
        parts = [f"lsst_distrib {self.product} ({', '.join(self.tags) or 'no tag'})"] if self.product else []
        parts += [f"{module} {version}" for module, version in sorted(self.versions.items())]
        return ", ".join(parts) or "nothing"


def find_release(environment: Mapping[str, str] | None = None) -> Release:
    """Look up what is set up. Nothing of the stack is imported: that takes seconds, and may fail.

    Tags come from the EUPS database, because a package built by EUPS calls its version after a commit
    (``g1a2b3c…+…``), which says nothing of the release.
    """
    environment = os.environ if environment is None else environment
    locations = {module: _location(module) for module in MODULES}
    missing = [module for module, folder in locations.items() if folder is None]
    missing += [product for product, name in FOLDERS.items() if not Path(environment.get(name, "")).is_absolute()]
    versions = {module: version for module, folder in locations.items() if folder and (version := _version(folder))}
    product, tags = _eups(environment.get("SETUP_LSST_DISTRIB", ""))
    return Release(tuple(missing), product, tags, versions)


def require_release(environment: Mapping[str, str] | None = None) -> Release:
    """Return the release that is set up.

    A stack built from source, whose versions are commits and whose tag is gone, is accepted with a warning.

    Raises
    ------
    SurveyError
        If no stack is set up, a part of it is missing, or it is another release.
    """
    found = find_release(environment)
    if set(MODULES) <= set(found.missing):
        raise SurveyError(
            "the engine science-pipelines needs the LSST Science Pipelines, which are not set up",
            f"release {_name(SUPPORTED)}", SET_UP,
        )  # fmt: skip
    if found.releases and not found.supported:
        raise SurveyError(
            f"the Science Pipelines that are set up are another release ({found})",
            f"release {_name(SUPPORTED)}, whose tasks the pipelines name", SET_UP,
        )  # fmt: skip
    if found.missing:
        raise SurveyError(
            f"the Science Pipelines that are set up lack {', '.join(found.missing)} (found {found})",
            f"lsst_distrib of release {_name(SUPPORTED)}", SET_UP,
        )  # fmt: skip
    if not found.releases:
        log.warning("the release of the Science Pipelines is unknown: found %s; supported: %s", found, _name(SUPPORTED))
    return found


@cache
def _required_once() -> Release:
    return require_release()


def stack(module: str) -> Any:
    """Import a module of the stack.

    Raises
    ------
    SurveyError
        If no supported stack is set up, or the module cannot be imported.
    """
    _required_once()
    try:
        return import_module(module)
    except ImportError as error:
        raise SurveyError(f"{module} cannot be imported ({error})", "a working stack", SET_UP) from error


def _name(release: tuple[int, int]) -> str:
    return f"v{release[0]}_{release[1]}_x"


def _parse(text: str) -> tuple[int, int] | None:
    """Return the release that a tag or version names; weeklies and their Python versions are (0, year)."""
    if match := _WEEKLY.match(text):
        return 0, int(match[1])
    if match := _VERSION.match(text):
        major, minor = int(match[1]), int(match[2])
        return (0, minor) if minor > 2000 else (major, minor)
    return None


def _location(module: str) -> Path | None:
    """Return the folder of a package, imported no further than its parents, which are namespaces."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def _version(folder: Path) -> str:
    file = folder / "version.py"
    match = re.search(r"""^__version__\s*=\s*["']([^"']+)["']""", file.read_text(), re.M) if file.is_file() else None
    return match[1] if match else ""


def _eups(setup: str) -> tuple[str, tuple[str, ...]]:
    """Return version and tags of a product from its ``SETUP_…`` variable: name, version, ``-f`` flavor, ``-Z`` root."""
    words = setup.split()
    if len(words) < 2:
        return "", ()
    version = words[1]
    root = Path(words[words.index("-Z") + 1].strip("\"'")) if "-Z" in words[:-1] else None
    tags = []
    for chain in sorted((root / "ups_db" / words[0]).glob("*.chain")) if root else []:
        if re.search(rf"^\s*VERSION\s*=\s*{re.escape(version)}\s*$", chain.read_text(), re.M):
            tags.append(chain.stem)
    return version, tuple(tags)
