"""A stack to import from, written from the contract: modules, upstream pipeline files, the camera's overrides."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from contract.classes import contract, modules
from lsst.daf.butler import StorageClass

_MODULE = '''"""Stand-in made from the contract."""

from contract.classes import define

globals().update(define(__name__))
'''
_PACKAGE = '''"""Stand-in made from the contract."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
'''
_INSTRUMENT = '''"""Stand-in of the camera."""

from pathlib import Path

import proc_decam_dagster.instrument


class DarkEnergyCamera(proc_decam_dagster.instrument.DarkEnergyCamera):
    """The same detectors and filters; the overrides of the camera's package."""

    configPaths = [str(Path(__file__).parents[4] / "overrides")]
'''


def write(folder: Path) -> Path:
    """Write the stand-in stack; return the folder for ``sys.path`` (``PYTHONPATH`` of other processes)."""
    python = folder / "python"
    for name in sorted(modules()):
        parts = name.split(".")
        for n in range(1, len(parts)):
            init = python.joinpath(*parts[:n], "__init__.py")
            init.parent.mkdir(parents=True, exist_ok=True)
            if not init.exists():
                init.write_text(_PACKAGE)
        package = python.joinpath(*parts)
        if any(m.startswith(name + ".") for m in modules()):
            package.mkdir(exist_ok=True)
            (package / "__init__.py").write_text(_PACKAGE + _MODULE.split('"""', 2)[2])
        else:
            package.with_suffix(".py").write_text(_MODULE)
    camera = python / "lsst" / "obs" / "decam"
    camera.mkdir(parents=True, exist_ok=True)
    (camera.parent / "__init__.py").write_text(_PACKAGE)
    (camera / "__init__.py").write_text(_INSTRUMENT)
    overrides = folder / "overrides"
    overrides.mkdir(exist_ok=True)
    for name, rows in contract()["overrides"].items():
        (overrides / f"{name}.py").write_text(_statements(rows))
    texts = {n: yaml.safe_dump(_pipeline(row), sort_keys=False) for n, row in contract()["pipelines"].items()}
    texts |= {n: _statements(rows) for n, rows in contract()["files"].items()}
    for location, text in texts.items():
        file = folder / "upstream" / location.removeprefix("$")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return python


def _statement(row: list) -> str:
    path, operator, value = row
    if operator == "retarget":
        module, name = value.rsplit(".", 1)
        return f"from {module} import {name}\nconfig.{path}.retarget({name})"
    if operator in ("=", "+=", "|="):
        return f"config.{path} {operator} {value}"
    return f"config.{path}.{operator}({value})"


def _statements(rows: list[list]) -> str:
    return "".join(_statement(row) + "\n" for row in rows)


def _override(row: list) -> dict:
    path, operator, value = row
    if operator == "yaml":
        return {path: value}
    return {"file": value} if operator == "file" else {"python": _statement(row)}


def _pipeline(row: dict) -> dict:
    """Return a pipeline file's content."""
    tasks = {}
    for label, task in row["tasks"].items():
        configs = [_override(r) for r in task.get("config", [])]
        tasks[label] = {"class": task["class"]} | ({"config": configs} if configs else {})
    found = {"description": "Stand-in made from the contract."}
    found |= {key: row[key] for key in ("instrument", "parameters", "imports") if key in row}
    found["tasks"] = tasks
    if row["subsets"]:
        found["subsets"] = {k: {"subset": v, "description": "stand-in"} for k, v in row["subsets"].items()}
    return found


def _can_convert(self: StorageClass, other: StorageClass) -> bool:
    """Return whether a conversion is declared, by the types' names: afw and pandas need not be there to tell."""
    mine, its = (c._pytypeName.replace("pyarrow.lib.", "pyarrow.") for c in (self, other))
    # `lsst.afw.image.ExposureF` is a `lsst.afw.image.Exposure`
    return self.name == other.name or its.startswith(mine) or its in self._converters


def environment(folder: Path) -> dict[str, str]:
    """Return the environment variables of the stand-in stack."""
    return {p.name: str(p) for p in sorted((folder / "upstream").iterdir())}


@contextmanager
def installed(folder: Path) -> Iterator[Path]:
    """Write the stand-in stack and make it importable; afterwards nothing of it is left.

    Parameters
    ----------
    folder : `~pathlib.Path`
        An empty folder.
    """
    if importlib.util.find_spec("lsst.ip") is not None:
        raise RuntimeError("a stack is set up: its own classes are there, stand-ins would hide them")
    python = write(folder)
    packages = [m for n, m in sys.modules.items() if n.startswith("lsst") and hasattr(m, "__path__")]
    paths = [(m, list(m.__path__)) for m in packages]
    before = dict(os.environ)
    os.environ.update(environment(folder))
    paths_of_children = [str(python), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths_of_children))
    sys.path.insert(0, str(python))
    for module in packages:
        below = python.joinpath(*module.__name__.split("."))
        if below.is_dir():
            module.__path__ = [*module.__path__, str(below)]
    importlib.invalidate_caches()
    can_convert, StorageClass.can_convert = StorageClass.can_convert, _can_convert
    try:
        yield folder
    finally:
        StorageClass.can_convert = can_convert
        sys.path.remove(str(python))
        for module, path in paths:
            module.__path__ = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(python)):
                del sys.modules[name]
                parent, _, child = name.rpartition(".")
                if parent in sys.modules:
                    vars(sys.modules[parent]).pop(child, None)
        os.environ.clear()
        os.environ.update(before)
        importlib.invalidate_caches()
