"""The module's own commands."""

import shutil

from proc_decam_dagster.simulation.__main__ import main
from proc_decam_dagster.simulation.survey import FILES, HELD_BACK


def test_release(survey, tmp_path):
    (tmp_path / "archive").mkdir()
    shutil.copy(survey / FILES, tmp_path / FILES)
    (tmp_path / HELD_BACK).write_text("20190317\n20190318\n")
    assert main(["release", str(tmp_path), "20190317"]) == 0
    assert (tmp_path / HELD_BACK).read_text() == "20190318\n"


def test_mistakes_are_one_line(tmp_path, capsys):
    assert main(["make", str(tmp_path / "none"), "--sky", "here"]) == 1
    assert main(["serve", str(tmp_path)]) == 1
    assert main(["make", str(tmp_path / "none"), "--detectors", "63"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(line.startswith("Error: ") for line in errors)
