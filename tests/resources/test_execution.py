"""The execution resource: which back end its settings mean."""

import pytest

from proc_decam_dagster.execution.bps import Bps
from proc_decam_dagster.resources import Execution


def test_back_ends():
    assert Execution().back_end() == "local"
    assert Execution(backend="bps", site="ours.yaml").back_end() == Bps("ours.yaml")


def test_the_environment_chooses(monkeypatch):
    monkeypatch.delenv("PROC_DECAM_BACKEND", raising=False)
    assert Execution.from_environment().back_end() == "local"
    monkeypatch.setenv("PROC_DECAM_BACKEND", "bps")
    assert Execution.from_environment().back_end() == Bps("")
    monkeypatch.setenv("PROC_DECAM_BACKEND", "condor")
    with pytest.raises(ValueError, match="condor"):
        Execution.from_environment()
