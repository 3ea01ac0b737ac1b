"""Checks of every processed chain: quanta that failed for good, and whether a template or difference is stale."""

import dagster as dg

from proc_decam_dagster.assets.lineage import ASSET_OF_PROC_TYPE, PER_TEMPLATE_TYPE
from proc_decam_dagster.assets.presentation import markdown_table
from proc_decam_dagster.checks.check import SHOWN, WARN, graded, parts_of, survey_check
from proc_decam_dagster.resources import ButlerRepository, Limits
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES


def _failed_quanta(proc_type: str, template_type: str) -> dg.AssetChecksDefinition:
    asset = ASSET_OF_PROC_TYPE[proc_type]

    @survey_check(
        asset, template_type=template_type, name=f"{asset}_failed_quanta",
        description="Few quanta of the chain failed for good, in whatever run of it.",
    )  # fmt: skip
    def failed_quanta(
        context: dg.AssetCheckExecutionContext, repository: ButlerRepository, limits: Limits
    ) -> dg.AssetCheckResult:
        from proc_decam_dagster.execution import Ledger

        chain = PROC_TYPES[proc_type].chain(**parts_of(context, asset, template_type))
        ledger = Ledger.of(repository.open())
        failures = ledger.failures([chain])
        tried = {(a.task, a.data_id) for a in ledger.attempts(chain)}
        if not tried:
            said = "no attempt is recorded: other tools have processed it, if any"
            return dg.AssetCheckResult(passed=True, description=said)
        percent = 100 * len(failures) / len(tried)
        rows = [(f.task, ", ".join(f"{k}={v}" for k, v in f.data_id.items()), f.exception, f.message) for f in failures]
        return graded(
            "failed_percent", percent, limits.failed_quanta_percent, limits,
            quanta=len(tried), failed=len(failures),
            failures=markdown_table(("task", "data id", "exception", "message"), rows[:SHOWN]),
        )  # fmt: skip

    return failed_quanta


def _up_to_date(proc_type: str, template_type: str) -> dg.AssetChecksDefinition:
    asset = ASSET_OF_PROC_TYPE[proc_type]

    @survey_check(
        asset, template_type=template_type, name=f"{asset}_up_to_date",
        description="Nothing of the chain is older than what it is made from.",
    )  # fmt: skip
    def up_to_date(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
        from proc_decam_dagster.repository.staleness import find_stale

        chain = PROC_TYPES[proc_type].chain(**parts_of(context, asset, template_type))
        stale = find_stale(repository.open(), chain)
        rows = [(s.dataset, len(s.data_ids), s.because, s.command) for s in stale]
        return dg.AssetCheckResult(
            passed=not rows, severity=WARN,
            description=f"{len(rows)} kinds of products are to be made anew" if rows else "nothing is stale",
            metadata={"stale": markdown_table(("dataset", "number", "because", "what to do next"), rows[:SHOWN])},
        )  # fmt: skip

    return up_to_date


_EACH = [
    (proc_type, template_type)
    for proc_type, asset in ASSET_OF_PROC_TYPE.items()
    for template_type in (TEMPLATE_TYPES if asset in PER_TEMPLATE_TYPE else ("",))
]
CHECKS = [
    *(_failed_quanta(*each) for each in _EACH),
    *(_up_to_date(*each) for each in _EACH if each[1]),
]
