"""A full disk at the terminal: one line that says so, nothing half-written, and a repository that stays sound."""

import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from .refusals import FIRST, NIGHT, SILENT, STATE, TABLE, error_of, raw_of, refused, run, written


def test_no_disk_space_for_a_download(survey, archive, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**9, 10**9, 1000))
    raw_of(FIRST).unlink()
    line = f"download {TABLE} --download-dir ./data/images --archive-url {archive.url}"
    told = refused(line, "no disk space for", "expected", "free some", but=STATE)
    assert "1 disk full" in told and not list(Path("data/images").glob("*.part"))


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a real file system of some kilobytes."""
    mounted = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root")
    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(folder: Path) -> None:
    with open(folder / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"0" * 4096)


def test_full_disk_under_a_new_repository(survey, small_disk):
    disk = small_disk(400)
    refused(f"create {disk}/repo --exposures {TABLE}", "no", "space", "free some")
    assert not (disk / "repo").exists()


def test_full_disk_under_tables_and_downloads(survey, small_disk, archive):
    disk = small_disk(16)
    shutil.copy(TABLE, disk / "exposures.ecsv")
    fill(disk)
    refused(f"exposures {disk} --archive-url {archive.url}", "no", "space", "free some")
    refused(f"download {disk}/exposures.ecsv --download-dir {disk}/images --archive-url {archive.url}")
    left = {p.name for p in disk.rglob("*") if p.is_file() and not any(part in p.name for part in (*SILENT, *STATE))}
    assert left == {"exposures.ecsv", "filler"}


@pytest.mark.parametrize(
    "line",
    [
        "fakes {repo} fakes.fits",
        "ingest {table} -b {repo} --reingest --transfer copy --collection full",
        "execute {repo} 20190401/bias",
    ],
)
def test_full_disk_under_a_repository(survey, small_disk, line):
    size = sum(p.stat().st_size for p in Path("repo").rglob("*") if p.is_file())
    blocks = sum(1 for p in Path("repo").rglob("*"))
    disk = small_disk(size // 1024 + 5 * blocks + 64)
    shutil.copytree("repo", disk / "repo")
    fill(disk)
    before = written(disk)
    result = run(line.format(repo=disk / "repo", table=TABLE))
    assert result.exit_code == 1, result.output
    told = error_of(result.stderr)
    assert "space" in told or "disk is full" in told
    assert written(disk) == before
    (disk / "filler").unlink()
    assert run(f"raw {disk}/repo bias {NIGHT}").exit_code == 0  # the registry is sound
