"""What `proc-decam plan` says of the sample survey, and what the list of exclusions does to its graphs."""

import json
import shutil

import pytest
from sample_survey import copy_repository

from proc_decam_dagster.survey.exposures import read_exposures, rows_of_nights, rows_of_obs_type


@pytest.fixture
def copy(sample):
    """A copy of the processed repository, in the survey's folder."""
    root = sample.folder / "copy"
    copy_repository(sample.repository, root)
    yield root
    shutil.rmtree(root)


def plan(sample, words: str) -> dict:
    done = sample.run(f"proc-decam plan ./data/exposures.ecsv --json {words}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_done_takes_nothing_and_what_is_not_costs_what_the_past_did(sample):
    first = plan(sample, "--repo ./repo --nights 20190401")
    assert [(c["proc_type"], c["to_do"]) for c in first["chains"]] == [("bias", 0), ("flat", 0), ("drp", 0)]
    assert all(c["frames"] == c["done"] > 0 and c["core_hours"] == 0 for c in first["chains"])
    more = plan(sample, "--repo ./repo --nights 20190401 --detectors 1 2 3")
    for chain, before in zip(more["chains"], first["chains"]):
        cost = more["costs"][chain["proc_type"]]
        assert chain["to_do"] == 2 * before["frames"]
        assert chain["core_hours"] == pytest.approx(chain["to_do"] * cost["cpu_seconds"] / 3600) and cost["frames"] > 0
        assert 1e5 < cost["bytes"] < 1e9 and 0.01 < cost["cpu_seconds"] < 1000


def test_without_a_past_the_costs_are_unknown(sample):
    made = plan(sample, "--nights 20190401 --proc-types drp")
    (chain,) = made["chains"]
    assert chain["to_do"] == chain["frames"] == 62 * chain["exposures"]
    assert chain["core_hours"] is None and chain["fetch_files"] == 0 and chain["lacks"] == []


def test_templates_and_differences(sample):
    words = "--proc-types coadd diff_drp --coadd-subset 2019 --template-types meanclip min"
    chains = {c["chain"]: c for c in plan(sample, f"--repo ./repo {words}")["chains"]}
    assert chains["20190401/2019/meanclip/diff_drp"]["to_do"] == 0
    assert chains["20190401/2019/min/diff_drp"]["to_do"] == chains["20190401/2019/min/diff_drp"]["frames"] > 0


def test_excluded_frames_leave_plan_and_graph(sample, copy):
    table = read_exposures(sample.folder / "data" / "exposures.ecsv")
    exposures = sorted(rows_of_obs_type(rows_of_nights(table, ["20190401"]), "object")["EXPNUM"])
    graph = "proc-decam qgraph -b ./copy -p pipelines/DRP.yaml#step1 -i 20190401/drp"
    before = sample.run(graph)
    assert before.returncode == 0, before.stderr
    assert quanta(before.stdout, "isr") == len(exposures)
    said = sample.run(f'proc-decam exclude ./copy --exposures {exposures[0]} --reason "telescope moved"')
    assert said.returncode == 0 and said.stdout == f"entry 1: exposure {exposures[0]} (telescope moved)\n"
    assert quanta(sample.run(graph).stdout, "isr") == len(exposures) - 1
    (chain,) = plan(sample, "--repo ./copy --nights 20190401 --proc-types drp")["chains"]
    assert chain["excluded"] == 1 and chain["why"] == ["1 left out: telescope moved (entry 1)"]
    assert sample.run('proc-decam include ./copy 1 --reason "it had not"').returncode == 0
    assert quanta(sample.run(graph).stdout, "isr") == len(exposures)
    listed = sample.run("proc-decam exclusions ./copy --history").stdout
    assert "telescope moved" in listed and "takes back 1" in listed and "version 2" in listed


def test_an_exclusion_without_a_reason_is_refused(sample):
    done = sample.run("proc-decam exclude ./repo --detectors 61")
    assert done.returncode == 1 and "error: there is no reason" in done.stderr


def quanta(text: str, task: str) -> int:
    """Return the number of a task's quanta in the table that `qgraph` prints."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [task]]
    return int(line.split()[1])


def test_two_nights_are_compared(sample):
    done = sample.run(f"proc-decam compare ./repo 20190401/drp {sample.nights[-1]}/drp --json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["software"] == {} and made["configuration"] == {}
    only_first, only_second = made["inputs"]["isr"]
    assert only_first and only_second and not set(only_first) & set(only_second)
    calexps = made["figures"]["calexp"]
    assert calexps == [len(only_first), len(only_second)]
    assert all(0.5 < seeing < 2 for seeing in made["figures"]["seeing_arcsec"])
    same = json.loads(sample.run("proc-decam compare ./repo 20190401/drp 20190401/drp --json").stdout)
    assert not same["inputs"] and all(a == b for a, b in same["figures"].values())


def test_a_fresh_survey_has_nothing_stale(sample):
    done = sample.run("proc-decam stale ./repo")
    assert done.returncode == 0 and done.stdout == "nothing is stale\n", done.stderr
