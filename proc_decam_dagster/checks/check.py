"""What all checks share: partitions of their asset, mistakes told in one line, and how a figure is graded."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg

from proc_decam_dagster.assets.asset import told_in_one_line
from proc_decam_dagster.assets.lineage import PARTITIONS, asset_key
from proc_decam_dagster.assets.presentation import listed
from proc_decam_dagster.partitions import COADD_SUBSET, NIGHT
from proc_decam_dagster.resources import Limits

# Said once for every check, in the log of each process that loads the definitions.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)

SHOWN = 100
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def survey_check(asset: str, *, template_type: str = "", **options: Any) -> Callable[[Callable], Any]:
    """Return the decorator of a check of one asset, with that asset's partitions.

    Checks are blocking: one that fails with severity ERROR keeps the data from what is made of them in the same run,
    and one that fails with WARN is only shown.
    """

    def decorate(evaluate: Callable) -> dg.AssetChecksDefinition:
        check = dg.asset_check(
            asset=asset_key(asset, template_type), partitions_def=PARTITIONS[asset], blocking=True, **options
        )
        return check(told_in_one_line()(evaluate))

    return decorate


def parts_of(context: dg.AssetCheckExecutionContext, asset: str, template_type: str = "") -> dict[str, str]:
    """Return the parts of the chain's name that an asset's partition and template type spell."""
    key = context.partition_key
    if asset == "diffs":
        key = key.keys_by_dimension
        parts = {"subset": key[NIGHT], "coadd_subset": key[COADD_SUBSET]}
    else:
        parts = {"coadd_subset" if asset == "coadds" else "subset": key}
    return parts | ({"template_type": template_type} if template_type else {})


def graded(name: str, value: float, limit: float, limits: Limits, **metadata: Any) -> dg.AssetCheckResult:
    """Judge a figure that should stay below a limit: beyond it warns, far beyond it, or unknown, is an error."""
    known = math.isfinite(value)
    return dg.AssetCheckResult(
        passed=known and value <= limit,
        severity=WARN if known and value <= limits.severe * limit else ERROR,
        description=f"{name}: {f'{value:.4g}' if known else 'not measured'}, limit {limit:g}",
        metadata={name: float(f"{value:.6g}") if known else "not measured", "limit": limit} | metadata,
    )


def complete(expected: int, missing: list[Any], what: str, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    """Judge whether all that was expected is there; nothing expected is no success."""
    return dg.AssetCheckResult(
        passed=expected > 0 and not missing,
        severity=severity if expected else ERROR,
        description=f"{expected - len(missing)} of {expected} {what}",
        metadata={"expected": expected, "found": expected - len(missing), "missing": listed(missing[:SHOWN])},
    )
