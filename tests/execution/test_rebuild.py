"""The ledger rebuilt from what others' runs have left."""

from toy.repository import PIPELINES

from proc_decam_dagster.execution import Ledger, run_step
from proc_decam_dagster.execution.rebuild import rebuild
from proc_decam_dagster.execution.status import UNKNOWN, survey_status

NIGHT, CHAIN = "20190401", "20190401/bias"


def test_rebuilt_as_it_was(repository, pool, steps):
    config = {"first:bad": [2], "first:mode": "os", "first:badExposures": [101]}
    ran = run_step(repository, "bias", NIGHT, "chainOfTwo", pipeline=steps, pool=pool, config=config)
    ledger = Ledger.of(repository)
    before = {(a.task, a.data_id): a for a in ledger.attempts(CHAIN)}
    number = len(ledger.attempts(CHAIN))
    assert number == 23 + 2
    ledger.file.unlink()
    assert survey_status(repository).nights[NIGHT]["bias"].state == UNKNOWN

    found = {(a.task, a.data_id): a for a in rebuild(repository, CHAIN, resources=True)}
    assert found.keys() == before.keys() and {a.run for a in found.values()} == {ran.run}
    for name, attempt in found.items():
        was = before[name]
        assert (attempt.outcome, attempt.step, attempt.transient) == (was.outcome, was.step, was.transient)
        assert abs(attempt.started - was.started) < 60 and attempt.peak_memory_mb > 50 and attempt.host
    (failed,) = ledger.failures([CHAIN])
    assert failed.exception == "OSError" and "Input/output error" in failed.message and failed.transient
    assert rebuild(repository, CHAIN) == [] and len(ledger.attempts(CHAIN)) == number
    assert str(survey_status(repository).nights[NIGHT]["bias"]).startswith("partial 0/4")


def test_a_run_of_another_name_is_found_through_the_chain(repository, pool, steps):
    run_step(repository, "bias", NIGHT, "1", pipeline_dir=str(PIPELINES), pool=pool)
    butler = repository.butler(writeable=True)
    name = "20190401/drp"
    (run,) = butler.collections.query(f"{CHAIN}/bias/step1/*")
    butler.collections.register(name, type=butler.collections.get_info(CHAIN).type)
    butler.collections.redefine_chain(name, [run])
    assert {a.outcome for a in rebuild(repository, name)} == {"succeeded"}
    assert {a.step for a in Ledger.of(repository).attempts(name)} == {""}


def test_a_run_whose_logs_were_pruned_is_passed_over(repository, pool, steps):
    run_step(repository, "bias", NIGHT, "1", pipeline_dir=str(PIPELINES), pool=pool)
    butler = repository.butler(writeable=True)
    (run,) = butler.collections.query(f"{CHAIN}/bias/step1/*")
    butler.pruneDatasets(butler.query_all_datasets(run, find_first=False), purge=True, unstore=True, disassociate=True)
    Ledger.of(repository).file.unlink()
    assert rebuild(repository, CHAIN) == []
