"""The stand-ins have the signatures and configuration fields of the release, as read from its sources."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

STAND_INS = Path(__file__).parent / "stand_ins"
SIGNATURES = json.loads((STAND_INS / "signatures.json").read_text())
MODULES = {
    "obs_base": "lsst/obs/base", "obs_decam": "lsst/obs/decam", "skymap": "lsst/skymap", "ip_isr": "lsst/ip/isr",
    "source_injection": "lsst/source/injection",
}  # fmt: skip
CASES = [(name, symbol) for name, source in SIGNATURES.items() for symbol in source["symbols"]]


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
    tree = ast.parse((STAND_INS / MODULES[name] / "__init__.py").read_text())
    assert tool._describe(tool._find(tree, symbol)) == SIGNATURES[name]["symbols"][symbol]


def test_the_signatures_say_where_they_come_from(tool):
    for name, (tag, files) in tool.SOURCES.items():
        assert SIGNATURES[name]["tag"] == tag
        assert SIGNATURES[name]["files"].keys() == files.keys()
        assert sorted(SIGNATURES[name]["symbols"]) == sorted(s for symbols in files.values() for s in symbols)
