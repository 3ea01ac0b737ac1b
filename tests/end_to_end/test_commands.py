"""The reference's command lines run as typed, on a survey that an archive serves."""

import json

import pytest
from sample_survey import COMMANDS, SECOND_DIFFERENCE, SECOND_NIGHT


@pytest.mark.parametrize("line", COMMANDS)
def test_command_line_runs_as_typed(sample, line):
    done = sample.done[line]
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", [SECOND_NIGHT, SECOND_DIFFERENCE])
def test_second_night_is_processed(sample, line):
    done = sample.done[line.format(night=sample.nights[-1])]
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_the_chains_are_those_of_the_reference(sample):
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.survey.proc_types import PROC_TYPES

    butler = open_repository(sample.repository).butler()
    for name in ("bias", "flat", "drp"):
        children = list(butler.collections.get_info(f"20190401/{name}").children)
        inputs = PROC_TYPES[name].input_collections("20190401")
        assert children[-len(inputs) :] == inputs
        runs = children[: -len(inputs)]
        assert runs and all(r.startswith(f"20190401/{name}/") for r in runs)
        stamps = [r.rsplit("/", 1)[1] for r in runs]
        assert stamps == sorted(stamps, reverse=True)
    assert butler.collections.get_info("2019/meanclip/coadd").children
    assert butler.collections.get_info("20190401/2019/meanclip/diff_drp").children


def test_running_again_finds_nothing_to_do(sample):
    from proc_decam_dagster.repository import open_repository

    before = set(open_repository(sample.repository).butler().collections.query("20190401/drp/*"))
    done = sample.run("J=2 proc-decam pipeline ./repo drp 20190401 --steps 1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nothing to do" in done.stdout + done.stderr
    after = set(open_repository(sample.repository).butler().collections.query("20190401/drp/*"))
    assert after == before


def test_downloading_again_fetches_nothing(sample):
    before = {p: p.stat().st_mtime_ns for p in (sample.folder / "data" / "images").glob("*.fz")}
    assert sample.run(COMMANDS[1]).returncode == 0
    assert before == {p: p.stat().st_mtime_ns for p in (sample.folder / "data" / "images").glob("*.fz")}


def test_plain_butler_commands_work(sample):
    import subprocess
    import sys
    from pathlib import Path

    butler = Path(sys.executable).parent / "butler"
    done = subprocess.run(
        [butler, "query-collections", str(sample.repository), "20190401/*"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "20190401/calib/bias" in done.stdout


def test_no_fake_reaches_a_template(sample):
    """What the coadds were made from, quantum by quantum, holds no injected dataset."""
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.survey.collections import coadd_inputs_collection

    butler = open_repository(sample.repository).butler()
    tagged = butler.collections.get_info(coadd_inputs_collection("2019", "meanclip"), include_summary=True)
    assert tagged.dataset_types and not [t for t in tagged.dataset_types if "injected" in t]
    warps = butler.query_datasets("deepCoadd_directWarp", collections="20190401/drp", limit=None)
    assert warps
    for ref in warps:
        assert "injected" not in json.dumps(butler.get(ref).metadata)
