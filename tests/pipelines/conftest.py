"""The stand-in stack, for all tests of pipelines."""

import importlib.util

import pytest
from contract.standins import installed


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """A stack to build the pipelines' graphs from, made from the contract."""
    if importlib.util.find_spec("lsst.ip") is not None:
        pytest.skip("a stack is set up: tests/stack builds the same graphs with its own classes")
    with installed(tmp_path_factory.mktemp("stack")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def _needs_stack(stack):
    """Every test here builds graphs."""
