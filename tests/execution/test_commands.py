"""The options on repeating, and `failures` and `status`, as they are typed."""

import contextlib
import json

import pytest
from click.testing import CliRunner
from toy.repository import CAMERA

import proc_decam_dagster.execution
import proc_decam_dagster.repository
from proc_decam_dagster.cli.main import main
from proc_decam_dagster.execution import Ledger

CHAIN = "20190401/bias"
TASKS = """
instrument: {camera}
description: Tasks that may fail
tasks:
  first: {{class: toy.tasks.AddTask, config: {{connections.target: one, {config}}}}}
  second: {{class: toy.tasks.AddTask, config: {{connections.source: one, connections.target: two}}}}
  gather: {{class: toy.tasks.CombineTask, config: {{connections.source: one}}}}
  inject: {{class: toy.tasks.InjectTask}}
subsets:
  step1: {{subset: [first, second, inject], description: second needs first}}
  step2: {{subset: [first, gather], description: gather takes what there is}}
"""


@pytest.fixture
def type_(repository, pool, monkeypatch):
    """Type a command on the toy repository, which no engine of ours knows, with the workers that all tests share."""
    monkeypatch.setattr(proc_decam_dagster.repository, "open_repository", lambda _: repository)
    monkeypatch.setattr(
        proc_decam_dagster.execution, "WorkerPool", lambda _: contextlib.nullcontext(pool), raising=False
    )

    def run(command, *words, code=0):
        result = CliRunner().invoke(main, [command, str(repository.root), *words])
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def execute(type_, tmp_path):
    """Run a step of a pipeline with a configuration of its first task; return the ledger's attempts of it."""

    def execute(config="", *options, step="step1", code=0):
        file = tmp_path / "toy.yaml"
        file.write_text(TASKS.format(camera=CAMERA, config=config))
        return type_("execute", CHAIN, "--pipeline", f"{file}#{step}", *options, code=code)

    return execute


@pytest.fixture
def tried(repository):
    """A function that returns how often quanta of the first task were tried."""
    return lambda: len(Ledger.of(repository).attempts(CHAIN, "first"))


def test_no_skip_existing_runs_again_what_succeeded(execute, tried):
    execute()
    assert "nothing to do" in execute() and tried() == 12
    execute("", "--no-skip-existing")
    assert tried() == 24


@pytest.mark.parametrize("option", ["--no-skip-failures", "--retry-failed"])
def test_what_failed_for_good_is_run_again_when_asked(execute, tried, option):
    assert "RuntimeError" in execute("bad: [2], mode: error", code=1)
    execute(code=1)
    assert tried() == 12
    assert "first  " in execute("", option) and tried() == 15


def test_only_retry_failed_gives_all_tries_back(execute, tried):
    bad = "bad: [2], badExposures: [101], mode: \"'os'\""
    execute(bad, code=1)
    assert tried() == 12 + 2
    execute(bad, "--no-skip-failures", code=1)
    assert tried() == 14 + 1
    execute(bad, "--retry-failed", code=1)
    assert tried() == 15 + 3


def test_no_loop_builds_one_graph(execute, repository):
    bad = "bad: [3], badExposures: [102], mode: error"
    execute(bad, "--no-loop", step="step2", code=1)
    assert len(Ledger.of(repository).runs(CHAIN)) == 1
    execute(bad, step="step2", code=1)
    assert len(Ledger.of(repository).runs(CHAIN)) == 2
    assert len(Ledger.of(repository).attempts(CHAIN, "gather")) == 4


def test_no_trigger_retry_repeats_nothing_now_nor_of_earlier_runs(execute, tried):
    bad = "bad: [1], mode: \"'os'\""
    execute(bad, "--no-trigger-retry", code=1)
    assert tried() == 12
    execute(bad, "--no-trigger-retry", code=1)
    assert tried() == 12
    execute(bad, code=1)  # they have tries left
    assert tried() == 12 + 3 * 2


def test_time_limit(execute, repository):
    output = execute("bad: [1], badExposures: [101], mode: slow", "--time-limit", "1.5", code=1)
    assert "TimeLimit" in output and "--time-limit SECONDS" in output


def test_failures_and_status_tell_what_there_is(execute, type_, repository):
    assert type_("failures") == "no failures\n"
    assert "20190401  missing  -     -" in type_("status")
    execute("bad: [2], mode: \"'os'\"", code=1)
    output = execute("bad: [2], mode: error", "--no-skip-failures", code=1)
    assert "left out: inject: there is no fakes_table" in output
    told = type_("failures", CHAIN)
    lines = told.splitlines()
    assert lines[0] == "1. RuntimeError: toy failure"
    assert lines[1] == "   3 permanent, 12 attempts: first"
    assert lines[2] == "   20190401/bias: detector 2 exposure 101-103"
    assert "--retry-failed" in lines[3] and f"execute {repository.root} {CHAIN} --pipeline" in lines[3]
    assert lines[-1] == "3 failed for good, 3 blocked by them"
    as_json = json.loads(type_("failures", "--json"))
    assert {q["data_id"]["exposure"] for q in as_json["causes"][0]["quanta"]} == {101, 102, 103}
    status = json.loads(type_("status", "--json"))["nights"]["20190401"]["bias"]
    assert (status["state"], status["good"], status["total"]) == ("partial", 0, 4)  # nothing is certified
    assert "is no processing chain" in type_("failures", "20190402/bias", code=1)
