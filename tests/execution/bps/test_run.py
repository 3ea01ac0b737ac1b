"""Steps on a real Slurm: what succeeds, what fails, what is repeated, and what is written down of it."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
import yaml

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution import Ledger, WorkerPool, run_step
from proc_decam_dagster.execution.bps import Bps, unfinished
from proc_decam_dagster.execution.bps.submission import PROCESS, read_json
from proc_decam_dagster.execution.bps.workflow import CANCELLED
from proc_decam_dagster.execution.pool import PoolStopped
from proc_decam_dagster.execution.status import survey_status

NIGHT = "20190401"
CHAIN = f"{NIGHT}/bias"


def made(repository, dataset_type: str) -> list:
    """Return the data ids of what is in the chain, each as often as it is there."""
    refs = repository.butler().query_datasets(dataset_type, collections=CHAIN, find_first=False, limit=None)
    return sorted((ref.dataId["exposure"], ref.dataId["detector"]) for ref in refs)


def test_a_step_is_run_in_slurm_jobs(repository, steps, slurm_site):
    seen = []
    report = run_step(
        repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, backend=Bps(slurm_site), progress=seen.append
    )
    assert report.ok and report.succeeded == 24 == report.quanta
    assert made(repository, "two") == [(e, d) for e in (101, 102, 103) for d in (1, 2, 3, 4)]
    attempts = Ledger.of(repository).attempts(CHAIN)
    assert Counter((a.backend, a.outcome) for a in attempts) == {("bps", "succeeded"): 24}
    assert {a.host for a in attempts} <= {"n1", "n2"}
    assert all(a.seconds > 0 and a.peak_memory_mb > 10 and a.memory_requested_mb == 2048 for a in attempts)
    assert seen[-1].done == 24 == seen[-1].total
    assert not unfinished(repository.state_dir)
    # Quanta share the imports of few processes.
    pids = {repository.butler().get(ref)["pid"] for ref in repository.butler().query_datasets("two", collections=CHAIN)}
    assert len(pids) <= 2
    again = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, backend=Bps(slurm_site))
    assert again.ok and again.nothing_to_do and again.skipped == 24


def test_failures_are_those_of_the_local_back_end(repository, steps, slurm_site, tmp_path):
    config = {"first:bad": [2], "first:badExposures": [101], "second:bad": [3], "second:mode": "kill",
              "second:times": 1, "second:memory": str(tmp_path / "memory")}  # fmt: skip
    report = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, config=config, backend=Bps(slurm_site))
    assert not report.ok
    assert (report.tasks["first"].succeeded, report.tasks["first"].failed) == (11, 1)
    assert (report.tasks["second"].succeeded, report.tasks["second"].blocked) == (11, 1)
    (failure,) = report.failures
    assert failure.exception == "RuntimeError" and "toy failure" in failure.message
    assert failure.data_id == {"instrument": "DECam", "exposure": 101, "detector": 2}
    attempts = Ledger.of(repository).attempts(CHAIN)
    killed = [a for a in attempts if a.exception == "Lost"]
    assert len(killed) == 3 and all("SIGKILL" in a.message for a in killed)
    assert len(attempts) == 12 + 11 + 3
    assert len(made(repository, "two")) == len(set(made(repository, "two"))) == 11
    # What failed for good is not submitted again.
    again = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, config=config, backend=Bps(slurm_site))
    assert again.nothing_to_do and again.failed == 1 and again.blocked == 1


def test_memory_is_doubled_in_the_request_until_it_is_enough(repository, steps, slurm_site, tmp_path):
    config = {"first:bad": [4], "first:badExposures": [102], "first:mode": "memory", "first:times": 2,
              "first:memory": str(tmp_path / "memory")}  # fmt: skip
    report = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, config=config, backend=Bps(slurm_site))
    assert report.ok
    asked = [
        a.memory_requested_mb
        for a in Ledger.of(repository).attempts(CHAIN, "first")
        if '"detector": 4, "exposure": 102' in a.data_id
    ]
    assert asked == [2048, 4096, 8192]


def test_the_workflows_process_may_be_a_slurm_job(repository, steps, slurm_site, tmp_path, monkeypatch):
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    site = yaml.safe_load(slurm_site.read_text())
    site["workflowJob"] = {"options": "#SBATCH --cpus-per-task=1 --mem=1G"}
    site["site"]["cluster"] |= {"nodes": 2, "cores_per_node": 1}  # a block of several nodes is started by srun
    slurm_site.write_text(yaml.safe_dump(site))
    report = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, backend=Bps(slurm_site))
    assert report.ok and report.succeeded == 24
    assert {a.host for a in Ledger.of(repository).attempts(CHAIN)} == {"n1", "n2"}
    assert not list(here.iterdir())  # where the command is typed nothing is left
    assert len(made(repository, "two")) == len(set(made(repository, "two"))) == 12


@pytest.fixture
def other_site(tmp_path) -> Path:
    """The site file of a toy workload management system."""
    site = tmp_path / "site.yaml"
    site.write_text(
        "wmsServiceClass: toy_wms.ToyService\ncomputeSite: anywhere\nsite: {anywhere: {class: none, cores: 2}}\n"
    )
    return site


def test_any_workload_management_system(repository, steps, other_site):
    config = {"first:bad": [2], "first:badExposures": [101]}
    report = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, config=config, backend=Bps(other_site))
    assert (report.succeeded, report.failed, report.blocked) == (22, 1, 1)
    assert len(made(repository, "two")) == len(set(made(repository, "two"))) == 11
    assert not unfinished(repository.state_dir)


def test_a_full_disk_stops_the_step_and_counts_as_no_failure(repository, steps, other_site, pool):
    config = {"first:bad": [2], "first:badExposures": [101], "first:mode": "full"}
    options = {"pipeline": steps, "where": "exposure=101"}
    with pytest.raises(SurveyError, match="no disk space for .*; free some, and run the command again"):
        run_step(repository, "bias", NIGHT, "chainOfTwo", config=config, backend=Bps(other_site), **options)
    attempts = Ledger.of(repository).attempts(CHAIN)
    assert {a.outcome for a in attempts if a.exception} == {"interrupted"}
    assert run_step(repository, "bias", NIGHT, "chainOfTwo", pool=pool, **options).ok
    assert made(repository, "two") == [(101, d) for d in (1, 2, 3, 4)]


def test_a_process_that_only_watches_may_die(repository, steps, other_site):
    killed = []

    def kill_once(_) -> None:
        (workflow,) = unfinished(repository.state_dir)
        if not killed:
            killed.append(read_json(workflow.submissions[-1].directory / PROCESS)["pid"])
            os.kill(killed[0], signal.SIGKILL)

    report = run_step(
        repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, config={"first:seconds": 0.3}, backend=Bps(other_site),
        progress=kill_once,
    )  # fmt: skip
    assert killed and report.ok and report.succeeded == 24
    attempts = Ledger.of(repository).attempts(CHAIN)
    assert len(attempts) == 24 and {a.outcome for a in attempts} == {"succeeded"}


def test_cancelled_between_two_submissions_nothing_more_is_submitted(repository, steps, other_site, tmp_path):
    """The quantum that is killed would be submitted once more."""
    config = {"first:bad": [2], "first:badExposures": [101], "first:mode": "kill", "first:times": 1,
              "first:memory": str(tmp_path / "memory")}  # fmt: skip
    noted = []

    def note_cancel(_) -> None:  # as one does who finds no process of it alive
        (workflow,) = unfinished(repository.state_dir)
        noted.append(len(workflow.submissions))
        (workflow.folder / CANCELLED).touch()

    options = {"pipeline": steps, "backend": Bps(other_site)}
    with pytest.raises(SurveyError, match="was cancelled; what had finished is registered"):
        run_step(repository, "bias", NIGHT, "chainOfTwo", config=config, progress=note_cancel, **options)
    assert set(noted) == {1} and not unfinished(repository.state_dir)
    assert len(made(repository, "two")) == 11
    assert run_step(repository, "bias", NIGHT, "chainOfTwo", **options).ok
    assert len(made(repository, "two")) == len(set(made(repository, "two"))) == 12


def test_folders_may_have_spaces_in_their_names(repository, steps, other_site):
    """Only Parsl cannot work there, and says so before anything is written."""
    spacious = repository.root.with_name("a survey's repository")
    repository.root.rename(spacious)
    moved = type(repository)(spacious)
    try:
        with pytest.raises(SurveyError, match="Parsl cannot work in .*a survey's repository.*move the repository"):
            run_step(moved, "bias", NIGHT, "chainOfTwo", pipeline=steps, backend=Bps("local"))
        assert not (moved.state_dir / "bps").exists()
        assert run_step(moved, "bias", NIGHT, "chainOfTwo", pipeline=steps, backend=Bps(other_site)).succeeded == 24
    finally:
        moved.close()


def test_a_site_that_runs_nothing_says_why(repository, steps, slurm_site):
    site = yaml.safe_load(slurm_site.read_text())
    site["site"]["cluster"]["partition"] = "nowhere"
    slurm_site.write_text(yaml.safe_dump(site))
    with pytest.raises(SurveyError, match="had run nothing.*invalid partition") as raised:
        run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, backend=Bps(slurm_site))
    assert "correct the site file" in str(raised.value)
    assert not unfinished(repository.state_dir)


def test_an_unknown_site_is_told_before_anything_is_written(repository, steps):
    with pytest.raises(SurveyError, match="site elsewhere is unknown; expected local or slurm, or a site file"):
        run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, backend=Bps("elsewhere"))
    assert not (repository.state_dir / "bps").exists()


def test_a_stopped_pool_ends_the_waiting_only(repository, steps, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("computeSite: local\nsite: {local: {cores: 2}}\n")
    config = {"first:seconds": 0.3}
    with WorkerPool(1) as pool, pytest.raises(PoolStopped):
        run_step(
            repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, config=config, backend=Bps(site), pool=pool,
            progress=lambda _: pool.stop(),
        )  # fmt: skip
    (workflow,) = unfinished(repository.state_dir)
    assert workflow.submissions[-1].alive()
    assert str(survey_status(repository).nights[NIGHT]["bias"]) == "running chainOfTwo"
    # The local back end waits for it too, and finds its work done.
    report = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, config=config)
    assert report.ok and report.succeeded == 24
    assert {a.backend for a in Ledger.of(repository).attempts(CHAIN)} == {"bps"}
    assert not unfinished(repository.state_dir)
