"""The stand-ins have the signatures and configuration fields of the release, as read from its sources."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

STAND_INS = Path(__file__).parent / "stand_ins"
SIGNATURES = json.loads((STAND_INS / "signatures.json").read_text())
CASES = [(name, symbol) for name, source in SIGNATURES.items() for symbol in source["symbols"]]


def stand_in(module: str) -> Path:
    """Return the file of a stand-in module."""
    path = STAND_INS.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.fixture(scope="module")
def tool():
    """The tool that wrote the signatures: stand-ins are read as the sources were."""
    path = Path(__file__).parents[2] / "tools" / "stack_signatures.py"
    spec = importlib.util.spec_from_file_location("stack_signatures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name, symbol", CASES)
def test_a_stand_in_takes_what_the_release_takes(tool, name, symbol):
    tree = ast.parse(stand_in(SIGNATURES[name]["modules"][symbol.split(".")[0]]).read_text())
    assert tool._describe(tool._find(tree, symbol)) == SIGNATURES[name]["symbols"][symbol]


def test_a_name_that_a_package_does_not_pass_on_is_not_there(tool):
    """`lsst.skymap` exports a discrete skymap, and keeps its rings to a module below."""
    modules = SIGNATURES["skymap"]["modules"]
    assert modules["DiscreteSkyMap"] == "lsst.skymap" and modules["RingsSkyMap"] == "lsst.skymap.ringsSkyMap"
    for repository, source in SIGNATURES.items():
        for name, module in source["modules"].items():
            package = ".".join(["lsst", *repository.split("_")])
            if package != module:
                assert name not in stand_in(package).read_text()


def test_the_signatures_say_where_they_come_from(tool):
    for name, (tag, files) in tool.SOURCES.items():
        assert SIGNATURES[name]["tag"] == tag
        assert SIGNATURES[name]["files"].keys() == files.keys()
        assert sorted(SIGNATURES[name]["symbols"]) == sorted(s for symbols in files.values() for s in symbols)
