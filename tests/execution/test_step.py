"""A step on a real Butler: every way in which a quantum can end, and what a rerun does."""

import shutil

import pytest
from toy.repository import PIPELINES, add_night, certify_flat

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import Ledger, TaskCounts, run_step, throttled

NIGHT = "20190401"
CHAIN = f"{NIGHT}/bias"
FRAMES = 12  # three exposures of four detectors


@pytest.fixture
def run(repository, pool, steps):
    """Run a step of the toy pipelines."""

    def run(step, *, pipeline=steps, **options):
        return run_step(repository, "bias", NIGHT, step, pipeline=pipeline, pool=pool, **options)

    return run


def children(repository):
    return repository.butler().collections.get_info(CHAIN).children


def stored(repository, name, collections=CHAIN):
    return repository.butler().query_datasets(name, collections, find_first=False, explain=False, limit=None)


def bad(detectors, mode, task="first", **more):
    return {f"{task}:bad": detectors, f"{task}:mode": mode} | {f"{task}:{k}": v for k, v in more.items()}


def test_success_is_registered_once_and_a_rerun_has_nothing_to_do(run, repository):
    report = run("chainOfTwo")
    assert report.ok and report.quanta == report.attempts == 2 * FRAMES
    assert report.tasks == {"first": TaskCounts(succeeded=FRAMES), "second": TaskCounts(succeeded=FRAMES)}
    assert len(stored(repository, "two")) == FRAMES
    assert {repository.butler().get(ref)["value"] - ref.dataId["exposure"] for ref in stored(repository, "two")} == {2}
    for kind in ("_log", "_metadata"):
        assert len(stored(repository, "second" + kind)) == FRAMES
    assert len(stored(repository, "packages")) == len(stored(repository, "first_config")) == 1

    again = run("chainOfTwo")
    assert again.ok and again.nothing_to_do and again.skipped == 2 * FRAMES and not again.runs
    assert "nothing to do" in str(again)
    assert len(stored(repository, "two")) == FRAMES
    assert report.peak_rss_gb > 0.05


def test_chain_holds_the_newest_run_first_then_the_inputs(run, repository):
    first = run("chainOfTwo").run
    second = run("chainOfTwo", skip_existing=False)
    assert second.ok and second.quanta == 2 * FRAMES  # runs once, although it loops
    assert children(repository)[:2] == (second.run, first)
    assert children(repository)[2:] == ("DECam/calib", f"{NIGHT}/bias/raw")
    assert first.startswith(f"{CHAIN}/steps/chainOfTwo/") and first.endswith("Z")


def test_permanent_failure_is_told_blocks_and_is_not_run_again(run, repository):
    report = run("chainOfTwo", config=bad([2], "error"))
    assert not report.ok
    assert report.tasks["first"] == TaskCounts(succeeded=9, failed=3)
    assert report.tasks["second"] == TaskCounts(succeeded=9, blocked=3)
    failure = report.failures[0]
    assert (failure.task, failure.exception, failure.attempts, failure.transient) == ("first", "RuntimeError", 1, False)
    assert failure.data_id == {"instrument": "DECam", "exposure": 101, "detector": 2}
    assert "toy failure" in failure.message and "proc-decam execute" in failure.action

    again = run("chainOfTwo")  # mended, but it is not asked for
    assert again.nothing_to_do and not again.ok
    assert again.tasks["first"] == TaskCounts(skipped=9, failed=3)
    assert again.tasks["second"] == TaskCounts(skipped=9, blocked=3)
    assert again.failures[0].earlier and again.failures[0].exception == "RuntimeError"

    asked = run("chainOfTwo", retry_failed=True)
    assert asked.ok and asked.tasks["first"] == TaskCounts(succeeded=3, skipped=9)
    assert asked.tasks["second"] == TaskCounts(succeeded=3, skipped=9)
    assert run("chainOfTwo").ok


def test_old_failures_are_not_run_beside_new_work(run, repository):
    run("chainOfTwo", config=bad([2], "error"))
    add_night(repository, NIGHT, "bias", [104])
    report = run("chainOfTwo", config=bad([2], "error"))
    assert report.tasks["first"] == TaskCounts(succeeded=3, failed=4, skipped=9)
    assert report.quanta == 4 + 3
    assert sum(f.earlier for f in report.failures) == 3


@pytest.mark.parametrize("options", [{"loop": True}, {"loop": False}])
def test_no_skip_failures_runs_them_once(run, options):
    run("chainOfTwo", config=bad([2], "error"))
    report = run("chainOfTwo", config=bad([2], "error"), skip_failures=False, **options)
    assert report.quanta == 3 and report.failures[0].attempts == 2


def test_gather_goes_on_with_what_succeeded(run, repository):
    once = run("withGather", config=bad([2], "error"), loop=False)
    assert once.tasks["gather"] == TaskCounts(succeeded=3, blocked=1)
    report = run("withGather")
    assert report.tasks["gather"] == TaskCounts(skipped=3, blocked=1)  # nothing of detector 2 is there to gather


def test_gather_goes_on_in_a_second_graph_without_the_frame_that_failed(run, repository):
    report = run("withGather", config={"first:bad": [3], "first:badExposures": [102]})
    assert report.tasks["first"] == TaskCounts(succeeded=FRAMES - 1, failed=1)
    assert report.tasks["gather"] == TaskCounts(succeeded=4) and len(report.runs) == 2
    frames = {r.dataId["detector"]: repository.butler().get(r)["frames"] for r in stored(repository, "bias")}
    assert frames == {1: 3, 2: 3, 3: 2, 4: 3}


def test_memory_error_is_repeated_then_ok(run, repository):
    report = run("chainOfTwo", config=bad([1], "memory", memory=str(repository.root / "memory"), times=2))
    assert report.ok and report.quanta == 2 * FRAMES and report.attempts == 2 * FRAMES + 6
    tries = [a for a in Ledger.of(repository).attempts(CHAIN, "first") if a.outcome == "failed"]
    assert len(tries) == 6 and all(a.transient and a.exception == "MemoryError" for a in tries)
    log = repository.butler().get(stored(repository, "first_log")[0])
    assert log


def test_retries_have_a_bound_over_all_runs(run, repository):
    report = run("chainOfTwo", config=bad([1], "os"), where="exposure=101")
    assert report.failures[0].transient and report.failures[0].attempts == 3 and report.attempts == 3 + 2 * 3
    again = run("chainOfTwo", where="exposure=101")
    assert again.nothing_to_do and again.failed == 1
    assert run("chainOfTwo", where="exposure=101", retry_failed=True).ok


def test_without_trigger_retry_nothing_is_repeated(run):
    report = run("chainOfTwo", config=bad([1], "memory"), trigger_retry=False)
    assert report.attempts == report.quanta and all(f.attempts == 1 for f in report.failures)
    later = run("chainOfTwo")
    assert later.ok and later.tasks["first"].succeeded == 3


@pytest.mark.parametrize("mode", ["kill", "exit"])
def test_killed_worker_costs_one_attempt_of_one_quantum(run, repository, mode):
    report = run("chainOfTwo", config=bad([4], mode, memory=str(repository.root / "memory"), times=1))
    assert report.ok and report.attempts == 2 * FRAMES + 3
    lost = [a for a in Ledger.of(repository).attempts(CHAIN) if a.outcome == "failed"]
    assert [a.exception for a in lost] == ["Lost"] * 3
    assert ("SIGKILL" if mode == "kill" else "status 3") in lost[0].message
    assert {repository.butler().get(r)["value"] - r.dataId["exposure"] for r in stored(repository, "one")} == {1}


@pytest.mark.parametrize("mode", ["kill", "partial"])
def test_nothing_half_written_is_left(run, repository, mode):
    report = run("chainOfTwo", config=bad([4], mode), where="exposure=101")
    assert report.failed == 1 and report.blocked == 1
    assert len(stored(repository, "one")) == 3
    butler = repository.butler()
    names = ["one", "two", "packages"] + [t + k for t in ("first", "second") for k in ("_log", "_metadata", "_config")]
    registered = {butler.getURI(ref).ospath for name in names for ref in stored(repository, name)}
    assert {str(f) for f in (repository.root / report.run).rglob("*") if f.is_file()} == registered
    assert len(stored(repository, "first_log")) == (3 if mode == "kill" else 4)


def test_time_limit_ends_a_quantum(run):
    report = run("chainOfTwo", config=bad([1], "slow"), where="exposure=102", time_limit=1.5)
    assert report.failed == 1 and report.failures[0].exception == "TimeLimit"
    assert not report.failures[0].transient and "--time-limit" in report.failures[0].action


def test_no_work_is_a_success_without_output(run, repository):
    report = run("chainOfTwo", config=bad([1], "nowork"))
    assert report.ok and len(stored(repository, "one")) == 9
    assert run("chainOfTwo").nothing_to_do


def test_failures_of_others_are_found_without_a_ledger(run, repository):
    run("chainOfTwo", config=bad([2], "error"))
    (repository.state_dir / "ledger.sqlite").unlink()
    report = run("chainOfTwo")
    assert report.nothing_to_do and report.tasks["first"].failed == 3
    failure = report.failures[0]
    assert (failure.exception, failure.message, failure.earlier) == ("RuntimeError", "toy failure", True)


def test_quantum_without_its_calibration_stops_no_other(run, repository):
    certify_flat(repository, NIGHT, (1, 2, 3))
    repository.butler(writeable=True).collections.register(f"{NIGHT}/extra")
    with pytest.raises(SurveyError, match="holds no flat.*--proc-type flat` first"):
        run("needsFlat")
    repository.butler(writeable=True).collections.extend_chain(CHAIN, [f"{NIGHT}/calib/flat"])
    report = run("needsFlat")
    assert report.tasks["apply"] == TaskCounts(succeeded=9, failed=3)
    assert {f.data_id["detector"] for f in report.failures} == {4}
    assert report.failures[0].exception == "MissingInput" and "no flat" in report.failures[0].message


def test_tasks_without_optional_inputs_are_left_out(run):
    report = run("optional")
    assert report.ok and list(report.tasks) == ["first"]
    assert report.left_out == {"inject": "fakes_table", "afterInject": "fakes_table"}


def test_missing_input_is_an_error_that_names_it(run, repository):
    with pytest.raises(SurveyError, match="holds no one"):
        run("lateInput")
    with pytest.raises(SurveyError, match="detector = 99"):
        run("chainOfTwo", where="detector = 99")
    with pytest.raises(SurveyError, match="no step step9.*chainOfTwo"):
        run("9")
    with pytest.raises(SurveyError, match="names no task"):
        run("chainOfTwo", config={"nobody:x": 1})
    with pytest.raises(SurveyError, match="injected"):
        run("chainOfTwo", science="injected")
    assert not any("chainOfTwo" in c for c in children(repository))


def test_workers_stay_warm_from_step_to_step(repository, pool):
    def pids(name):
        return {repository.butler().get(ref)["pid"] for ref in stored(repository, name)}

    options = {"pool": pool, "pipeline_dir": str(PIPELINES)}
    run_step(repository, "bias", NIGHT, "1", **options)
    before = set(pool.pids)
    report = run_step(repository, "bias", NIGHT, "step2", **options)
    assert report.tasks == {"cpBiasCombine": TaskCounts(succeeded=4)}
    assert pids("added") | pids("bias") <= before == set(pool.pids)


def test_progress_counts_to_the_end(run):
    seen, lines = [], []
    write = throttled(lines.append, seconds=3600)
    run("chainOfTwo", config=bad([2], "error"), progress=lambda p: (seen.append(p), write(p)))
    assert seen[-1].done == seen[-1].total == 2 * FRAMES and (seen[-1].failed, seen[-1].blocked) == (3, 3)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert len(lines) == 2 and lines[-1].endswith("24/24, 3 failed, 3 blocked")


def test_what_a_killed_driver_left_is_taken_in(run, repository):
    """Outputs registered in a RUN that no chain update followed are found by the next run."""
    report = run("chainOfTwo")
    butler = repository.butler(writeable=True)
    butler.collections.redefine_chain(CHAIN, [c for c in children(repository) if c != report.run])
    assert run("chainOfTwo").nothing_to_do
    assert report.run in children(repository)


def test_graph_files_are_not_left_behind(run, repository):
    run("chainOfTwo")
    assert not list((repository.state_dir / "graphs").iterdir())
    shutil.rmtree(repository.state_dir / "graphs")
