"""Checks of a night's master calibrations: all that its raws call for, and at the levels of the last good night."""

import dagster as dg

from proc_decam_dagster.assets.presentation import markdown_table
from proc_decam_dagster.checks.check import ERROR, SHOWN, complete, graded, survey_check
from proc_decam_dagster.resources import ButlerRepository, Limits

COMPARED_NIGHTS = 3
"""A bad night must not condemn those after it: one of the last nights is to agree."""


def _certified(proc_type: str) -> dg.AssetChecksDefinition:
    @survey_check(
        proc_type, name=f"{proc_type}_certified",
        description=f"Every detector (and filter) in the night's raws has a certified {proc_type}; excluded ones are "
        "not asked for.",
    )  # fmt: skip
    def certified(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
        from proc_decam_dagster.report import lacking_masters

        return complete(
            *lacking_masters(repository.open(), context.partition_key, proc_type), "masters are certified", ERROR
        )

    return certified


def _levels(proc_type: str) -> dg.AssetChecksDefinition:
    @survey_check(
        proc_type, name=f"{proc_type}_levels",
        description=f"The night's masters are at the levels of one of the last {COMPARED_NIGHTS} nights.",
    )  # fmt: skip
    def levels(
        context: dg.AssetCheckExecutionContext, repository: ButlerRepository, limits: Limits
    ) -> dg.AssetCheckResult:
        from proc_decam_dagster.report import earlier_masters, master_changes

        repo, night = repository.open(), context.partition_key
        limit = limits.bias_change_adu if proc_type == "bias" else limits.flat_change
        found = []
        for other, before in earlier_masters(repo, night, proc_type)[:COMPARED_NIGHTS]:
            changes = master_changes(repo, night, proc_type, before)
            if not changes:
                continue
            beyond = [c for c in changes if not c.worst <= limit]
            rows = [
                (c.detector, c.physical_filter, *(f"{v:.4g}" for v in (c.level, c.shift, c.structure)))
                for c in sorted(beyond or changes, key=lambda c: -c.worst)
            ]
            shown = markdown_table(("detector", "filter", "level", "shift", "structure"), rows[:SHOWN])
            result = graded(
                "changed_percent", 100 * len(beyond) / len(changes), limits.changed_masters_percent, limits,
                compared_with=other, largest_change=max(c.worst for c in changes), allowed_change=limit, masters=shown,
            )  # fmt: skip
            if result.passed:
                return result
            found.append(result)
        if found:
            return found[0]
        return dg.AssetCheckResult(passed=True, description="no earlier night has masters to compare with")

    return levels


CHECKS = [make(proc_type) for proc_type in ("bias", "flat") for make in (_certified, _levels)]
