"""How many cores are asked for."""

import os

import pytest

from proc_decam_dagster.cores import asked_cores, default_cores
from proc_decam_dagster.errors import SurveyError


@pytest.mark.parametrize(("J", "cores"), [("24", 24), (" 3 ", 3), ("", None), (None, None)])
def test_J_of_the_environment_is_the_cores_of_an_execution(monkeypatch, J, cores):
    monkeypatch.delenv("J", raising=False)
    if J is not None:
        monkeypatch.setenv("J", J)
    assert asked_cores() == cores and default_cores() == (cores or os.cpu_count())


@pytest.mark.parametrize("J", ["abc", "0", "-2", "1.5", "²"])
def test_what_is_no_number_of_cores_is_refused(monkeypatch, J):
    monkeypatch.setenv("J", J)
    with pytest.raises(SurveyError, match=f"J={J} in the environment"):
        default_cores()
