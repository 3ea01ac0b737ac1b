"""The house rules: imports point down only, and each heavy library is imported where it belongs."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "proc_decam_dagster"
NAME = PACKAGE.name

FACES = {
    "definitions", "assets", "checks", "instance", "partitions", "sensors", "schedules", "resources", "bridge", "cli",
}  # fmt: skip
GROUND = {"camera", "cores", "errors", "interrupts", "locks", "__version__"}
ALLOWED = {
    "camera": set(),
    "errors": set(),
    "interrupts": set(),
    "cores": set(),
    "locks": set(),
    "survey": set(),
    "archive": {"survey"},
    "repository": {"survey", "archive"},
    "execution": {"survey", "repository"},
    "database": {"survey", "repository"},
    "report": {"survey", "repository", "execution"},
    "pixels": set(),
    # The engine takes from the domain nothing but the names of datasets and collections.
    "tasks": {"pixels", "survey.datasets"},
    "instrument": {"tasks", "pixels", "survey.datasets", "survey.collections"},
    "simulation": {"survey"},
}
"""What each part may import from this package, beside the ground that all stand on."""

LIBRARIES = {
    "dagster": FACES - {"cli"},
    "lsst.daf.butler": {"repository", "execution", "tasks", "instrument"},
    "click": {"cli"},
}
"""Which parts may import a library."""

LIBRARY_EXCEPTIONS = {("cli/butler_plugin.py", "lsst.daf.butler")}
"""The `butler` command's plug-in is written with that command's own options."""


def _imports(path: Path) -> set[str]:
    """Return the dotted names of all that a module imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.add(f"{NAME}.<relative import>")
    return found


def _modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__")


def _part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path):
    part = _part(path)
    ours = {name.removeprefix(NAME + ".") for name in _imports(path) if name.startswith(NAME + ".")}
    if part in FACES:
        wrong = {n for n in ours if n.split(".")[0] in {"instrument", "tasks", "pixels", "simulation"}}
        if part == "cli":
            wrong |= {n for n in ours if n.split(".")[0] in FACES - {"bridge", "cli"}}
    else:
        wrong = {n for n in ours if not any(_within(n, a) for a in ALLOWED[part] | GROUND | {part})}
    assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_are_imported_where_they_belong(path):
    imports = _imports(path)
    for library, parts in LIBRARIES.items():
        used = any(_within(name, library) for name in imports)
        excepted = (str(path.relative_to(PACKAGE)), library) in LIBRARY_EXCEPTIONS
        assert not used or _part(path) in parts or excepted, f"{path.relative_to(PACKAGE)} imports {library}"


def test_every_part_has_its_rule():
    parts = {_part(p) for p in _modules()}
    assert parts <= FACES | set(ALLOWED)


def test_every_module_says_what_belongs_in_it():
    silent = [str(p.relative_to(PACKAGE)) for p in _modules() if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent
