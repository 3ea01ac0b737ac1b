"""The wheel holds all that is needed, works from anywhere, and pulls nothing over an installed stack."""

import re
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A fresh environment with the built wheel; its dependencies are those of the running one."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A plain path, whose own .pth files (the editable install) are not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "env" / "bin"


def _run(installed: Path, *command: str, cwd: str = "/") -> subprocess.CompletedProcess:
    return subprocess.run(
        [installed / command[0], *command[1:]], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def test_command_runs_from_the_root_folder(installed, tmp_path):
    repo = tmp_path / "repo"
    done = _run(installed, "proc-decam", "create", str(repo))
    assert done.returncode == 0, done.stderr
    assert (repo / "butler.yaml").is_file()
    again = _run(installed, "proc-decam", "pipeline", str(repo), "bias", "20190401")
    assert again.returncode != 0
    assert "Traceback" not in again.stderr
    page = _run(installed, "proc-decam", "page", str(repo))
    assert page.returncode == 0 and "0 nights" in page.stdout, page.stderr


def test_the_wheel_is_what_runs_and_its_pipelines_are_inside(installed):
    code = (
        "import pathlib, proc_decam_dagster as p, proc_decam_dagster.definitions as d; "
        "root = pathlib.Path(p.__file__).parent; "
        "print(root); print(sorted(f.name for f in (root / 'pipelines' / 'embedded').glob('*.yaml')))"
    )
    done = _run(installed, "python", "-W", "ignore", "-c", code)
    assert done.returncode == 0, done.stderr
    root, pipelines = done.stdout.strip().splitlines()
    assert Path(root).is_relative_to(installed.parent)
    for name in ("bias", "flat", "DRP", "mean-template", "median-template", "meanclip-template", "min-template"):
        assert f"{name}.yaml" in pipelines


def test_nothing_is_pulled_over_an_installed_stack():
    """Without the extra, no requirement of ours, or of theirs, is a package of the LSST middleware."""
    seen, todo = set(), ["proc-decam-dagster"]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            wanted = requires(name) or []
        except PackageNotFoundError:
            continue
        todo += [
            re.match(r"[A-Za-z0-9._-]+", r).group().lower() for r in wanted if "extra ==" not in r.replace("'", '"')
        ]
    assert "dagster" in seen and "astropy" in seen
    assert not [n for n in seen if n.startswith("lsst") or n == "astro-metadata-translator"]


def test_lock_is_hashed_and_names_no_index():
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "index" not in lock and "://" not in lock
    pins = [line for line in lock.splitlines() if line and not line.startswith(" ")]
    assert all("==" in line for line in pins)
