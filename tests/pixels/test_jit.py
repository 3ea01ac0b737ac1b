"""When kernels are compiled, and where they are kept."""

import subprocess
import sys

import numpy as np

from proc_decam_dagster.pixels.jit import cache_dir, jit


def test_cache_moves_away_from_folders_that_cannot_be_written(tmp_path, monkeypatch):
    package, home, temporary = tmp_path / "package", tmp_path / "home", tmp_path / "tmp"
    for folder in (package, home, temporary):
        folder.mkdir()
    assert cache_dir(package, home, temporary) is None
    closed = {package}
    monkeypatch.setattr("os.access", lambda path, mode: path not in closed)
    assert cache_dir(package, home, temporary) == home / "proc-decam" / "numba"
    closed.add(home)
    assert cache_dir(package, home / "missing", temporary).parent == temporary


def test_arithmetic_knows_nan():
    @jit(cache=False)
    def count(values):
        n = 0
        for i in range(len(values)):
            if np.isnan(values[i]):
                n += 1
        return n

    assert count(np.array([1.0, np.nan, np.inf])) == 1


def test_a_kernel_is_compiled_into_another_one():
    @jit(cache=False)
    def half(value):
        return value / 2

    @jit(cache=False)
    def quarter(value):
        return half(half(value))

    assert quarter(2.0) == 0.5


def test_those_who_build_graphs_of_calibrations_import_no_numba():
    program = """
import sys
import proc_decam_dagster.instrument.engine, proc_decam_dagster.tasks.bias, proc_decam_dagster.tasks.flat
print({"numba", "scipy"} & set(sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"
