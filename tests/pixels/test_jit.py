"""When kernels are compiled, and where they are kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from proc_decam_dagster.pixels import jit_cache
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


def test_a_kept_kernel_is_made_anew_when_what_it_calls_or_names_has_changed(tmp_path):
    """As an upgrade leaves it: the kernel's own file the same, its compiled form still beside it."""
    ours, pixels = Path(jit_cache.__file__).parents[1], tmp_path / "proc_decam_dagster" / "pixels"
    pixels.mkdir(parents=True)
    for file in ("__init__.py", "pixels/__init__.py", "pixels/jit.py", "pixels/jit_cache.py"):
        shutil.copy(ours / file, pixels.parent / file)
    header = "from proc_decam_dagster.pixels.jit import jit\n"
    (pixels / "deep.py").write_text("FACTOR = 2\n")
    (pixels / "inner.py").write_text(
        f"{header}from proc_decam_dagster.pixels import (\n    deep as d,\n)\nFACTOR = d.FACTOR\n"
        "@jit\ndef inner(x):\n    return x * FACTOR\n"
    )
    (pixels / "outer.py").write_text(
        f"{header}from proc_decam_dagster.pixels.inner import inner\n@jit\ndef outer(x):\n    return inner(x) + 1\n"
    )
    program = (
        "from proc_decam_dagster.pixels.outer import outer\n"
        "print(outer(10), sum(outer._dispatcher.stats.cache_hits.values()))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}

    def run():
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert run() == "21 0\n"
    assert run() == "21 1\n"
    (pixels / "deep.py").write_text("FACTOR = 3\n")
    assert run() == "31 0\n"
    (pixels / "inner.py").write_text(f"{header}@jit\ndef inner(x):\n    return x * 5\n")
    assert run() == "51 0\n"
    assert run() == "51 1\n"


def test_kernels_of_others_are_kept_as_numba_keeps_them(tmp_path):
    """Else processes with and without us would compile them in turns."""
    (tmp_path / "theirs.py").write_text("import numba\n@numba.njit(cache=True)\ndef one():\n    return 1\n")
    told = "import theirs; theirs.one(); print(sum(theirs.one.stats.cache_hits.values()))"
    ours = "from proc_decam_dagster.pixels.jit import jit\n@jit(cache=False)\ndef f():\n    return 1\nf()\n"
    hits = [
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True).stdout
        for program in (told, ours + told, told)
    ]
    assert hits == ["0\n", "1\n", "1\n"]
