"""Our requirements admit what release v30 is installed with, so that pip leaves the stack's own packages alone."""

import ast
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "proc_decam_dagster"
RUBIN_ENV = {
    canonicalize_name(r.name): r
    for line in (Path(__file__).parent / "rubin-env-12.1.0.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for r in [Requirement(line)]
}
OURS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ONLY_EMBEDDED = {"instrument", "tasks", "pixels", "report/truth.py"}
"""What a survey on the stack never imports: the embedded engine, and the comparison of its demo with the truth. The
simulation is none of it: the raws of the tests beside a stack are simulated."""
OPTIONAL = {"cryptography"}
"""Done without where it is absent."""
MODULE_NAMES = {"pillow": "PIL", "pyyaml": "yaml"}
"""Distribution → its module, where they differ."""


def lowest(requirement: Requirement) -> str:
    """Return the lowest version that a requirement admits."""
    return next(s.version for s in requirement.specifier if s.operator in (">=", "=="))


def conflicts(name: str, requirement: Requirement) -> bool:
    theirs = RUBIN_ENV.get(canonicalize_name(name))
    return theirs is not None and not requirement.specifier.contains(lowest(theirs))


def test_the_python_of_the_release_is_one_of_ours():
    assert not conflicts("python", Requirement("python" + OURS["requires-python"]))


@pytest.mark.parametrize("line", OURS["dependencies"])
def test_what_we_require_admits_what_is_there(line):
    requirement = Requirement(line)
    assert not conflicts(requirement.name, requirement)


def test_what_is_required_further_down_conflicts_where_the_documentation_says():
    """Dagster alone asks for an older `coloredlogs`; hence an environment of our own on top, see docs/production.md."""
    found, seen, todo = set(), set(), [Requirement(line) for line in OURS["dependencies"]]
    while todo:
        requirement = todo.pop()
        if conflicts(requirement.name, requirement):
            found.add(canonicalize_name(requirement.name))
        if requirement.name in seen:
            continue
        seen.add(requirement.name)
        try:
            lines = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        todo += [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate({"extra": ""})]
    assert {"dagster", "pydantic", "protobuf"} <= {canonicalize_name(n) for n in seen}
    assert found <= {"coloredlogs"}
    assert all(name in (ROOT / "docs" / "production.md").read_text() for name in found)


def test_what_the_common_code_imports_is_required_or_comes_with_the_stack():
    provided = {canonicalize_name(Requirement(line).name) for line in OURS["dependencies"]} | set(RUBIN_ENV)
    modules = {MODULE_NAMES.get(name, name.replace("-", "_")) for name in provided}
    modules |= {"lsst", "astro_metadata_translator", "proc_decam_dagster", *OPTIONAL, *sys.stdlib_module_names}
    unknown = set()
    for path in PACKAGE.rglob("*.py"):
        within = path.relative_to(PACKAGE)
        if within.parts[0] in ONLY_EMBEDDED or str(within) in ONLY_EMBEDDED:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            unknown |= {(n.split(".")[0], str(within)) for n in names}
    assert not {pair for pair in unknown if pair[0] not in modules}
