"""One small survey, simulated, served, and processed by the reference's command lines as typed; shared by these tests.

Its field culminates so that the first night is 20190401, the night of those command lines, and its one CCD is 1.
"""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

SKY = (191.83, 1.7)
PROC_DECAM = Path(sys.executable).parent / "proc-decam"

DETECTOR = """--where "instrument='DECam' and detector=1\""""
COMMANDS = (
    "proc-decam exposures ./data --proposal-id 2019A-0337",
    "proc-decam download ./data/exposures.ecsv --download-dir ./data/images",
    "proc-decam create ./repo --exposures ./data/exposures.ecsv",
    "proc-decam defects ./repo ./data/bpm",
    "proc-decam refcats ./repo ./data/exposures.ecsv",
    "proc-decam fakes ./repo path/to/fakes.fits",
    f"J=2 proc-decam night ./repo ./data/exposures.ecsv --nights 20190401 {DETECTOR} -J 4",
    f"J=2 proc-decam pipeline ./repo bias 20190401 {DETECTOR}",
    f"proc-decam execute ./repo 20190401/bias --pipeline pipelines/bias.yaml#step1 {DETECTOR}",
    'proc-decam coadd ./repo "2019*/drp" --coadd-subset 2019 --template-type meanclip --warp-coadd-name deep',
    "proc-decam night ./repo 20190401 --proc-type diff_drp --coadd-subset 2019 --template-type meanclip",
    "proc-decam collection ./repo bias 20190401",
)
"""The command lines of the replaced system's README, in its order, with `create` for its four `butler` commands."""

SECOND_NIGHT = "J=2 proc-decam night ./repo ./data/exposures.ecsv --nights {night} -J 1"
SECOND_DIFFERENCE = (
    "J=2 proc-decam night ./repo {night} --proc-type diff_drp --coadd-subset 2019 --template-type meanclip "
    "--science both"
)


@dataclass
class Sample:
    """The survey's folder, its environment, and what became of each command."""

    folder: Path
    environment: dict[str, str]
    nights: list[str] = field(default_factory=list)
    done: dict[str, subprocess.CompletedProcess] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        """The Butler repository."""
        return self.folder / "repo"

    @property
    def truth(self) -> Path:
        """The truth tables."""
        return self.folder / "archive" / "truth"

    def run(self, line: str, timeout: float = 900) -> subprocess.CompletedProcess:
        """Run a command line in the survey's folder."""
        words = shlex.split(line)
        variables = dict(os.environ) | self.environment
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        assert words[0] == "proc-decam"
        return subprocess.run(
            [PROC_DECAM, *words[1:]], cwd=self.folder, env=variables, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip


def copy_repository(source: Path, target: Path) -> None:
    """Copy a repository to be changed; its images, which are made anew but never written to, are linked."""

    def link_images(file: str, copy: str) -> None:
        (os.link if file.endswith(".fits") else shutil.copy2)(file, copy)

    shutil.copytree(source, target, symlinks=True, copy_function=link_images)


def certified_detectors(root: Path, night: str, proc_type: str) -> set[int]:
    """Return the detectors that have a certified master calibration of a night."""
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.queries import find_certified
    from proc_decam_dagster.survey.collections import calib_collection

    repository = open_repository(root)
    refs = find_certified(repository, proc_type, calib_collection(night, proc_type))
    repository.close()
    return {int(ref.dataId["detector"]) for ref in refs}
