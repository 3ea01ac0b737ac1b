"""Asset checks, per partition: blocking where the data must not go on."""

import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg

from proc_decam_dagster.assets.asset import told_in_one_line
from proc_decam_dagster.assets.lineage import PARTITIONS, asset_key
from proc_decam_dagster.partitions import COADD_SUBSET, NIGHT
from proc_decam_dagster.resources import ButlerRepository, Survey
from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES

# Said once for every check, in the log of each process that loads the definitions.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)

ASTROMETRY_LIMIT_MAS = 100.0
"""Scatter against the reference catalogue that a good solution stays below (real DECam reaches 20–60 mas)."""

MINIMUM_TEMPLATE_INPUTS = 2


def _check(asset: str, *, template_type: str = "", **options: Any) -> Callable[[Callable], Any]:
    """Return the decorator of a check of one asset, with that asset's partitions."""

    def decorate(evaluate: Callable) -> dg.AssetChecksDefinition:
        check = dg.asset_check(asset=asset_key(asset, template_type), partitions_def=PARTITIONS[asset], **options)
        return check(told_in_one_line()(evaluate))

    return decorate


@_check("raws", blocking=True)
def raws_complete(
    context: dg.AssetCheckExecutionContext, survey: Survey, repository: ButlerRepository
) -> dg.AssetCheckResult:
    """Every exposure of the night in the table is registered in the repository."""
    from proc_decam_dagster.report import registered_exposures
    from proc_decam_dagster.survey import exposures as table_io

    night = context.partition_key
    table = table_io.rows_of_nights(table_io.read_exposures(survey.exposures_file), [night])
    missing = sorted({int(e) for e in table["EXPNUM"]} - registered_exposures(repository.open()))
    return dg.AssetCheckResult(
        passed=not missing, metadata={"expected": len(table), "missing": dg.MetadataValue.json(missing)}
    )


def _certified(proc_type: str) -> dg.AssetChecksDefinition:
    @_check(
        proc_type, blocking=True, name=f"{proc_type}_certified",
        description=f"Every detector in the night's raws has a certified {proc_type}.",
    )  # fmt: skip
    def certified(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
        from proc_decam_dagster.report import certified_detectors, raw_detectors

        repo, night = repository.open(), context.partition_key
        expected, found = raw_detectors(repo, night, proc_type), certified_detectors(repo, night, proc_type)
        missing = sorted(expected - found)
        return dg.AssetCheckResult(
            passed=bool(found) and not missing,
            metadata={"certified": len(found), "missing_detectors": dg.MetadataValue.json(missing)},
        )

    return certified


@_check("calexps")
def calexps_complete(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
    """Every science raw of the night has a calibrated exposure."""
    from proc_decam_dagster.report import missing_calexps

    expected, missing = missing_calexps(repository.open(), context.partition_key)
    return dg.AssetCheckResult(
        passed=expected > 0 and not missing,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"expected": expected, "missing": dg.MetadataValue.json([list(m) for m in missing[:100]])},
    )


@_check("calexps")
def astrometric_scatter(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
    """The scatter of the astrometric solutions is that of a good night."""
    from proc_decam_dagster.report import visit_figures

    scatter = visit_figures(repository.open(), context.partition_key)["astrometric_rms_mas"]
    return dg.AssetCheckResult(
        passed=bool(scatter < ASTROMETRY_LIMIT_MAS),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"median_rms_mas": scatter, "limit_mas": ASTROMETRY_LIMIT_MAS},
    )


@_check("calexps")
def exposures_in_skymap(
    context: dg.AssetCheckExecutionContext, survey: Survey, repository: ButlerRepository
) -> dg.AssetCheckResult:
    """Every science exposure of the night lies in the survey's skymap."""
    from proc_decam_dagster.repository import exposures_outside_skymap
    from proc_decam_dagster.survey import exposures as table_io

    table = table_io.rows_of_nights(table_io.read_exposures(survey.exposures_file), [context.partition_key])
    outside = exposures_outside_skymap(repository.open(), table)
    return dg.AssetCheckResult(passed=not outside, metadata={"outside": dg.MetadataValue.json(outside)})


def _template_depth(template_type: str) -> dg.AssetChecksDefinition:
    @_check("coadds", template_type=template_type)
    def template_depth(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
        """Enough visits went into the template."""
        from proc_decam_dagster.report import coadd_figures

        figures = coadd_figures(repository.open(), coadd_subset=context.partition_key, template_type=template_type)
        return dg.AssetCheckResult(
            passed=figures["median_inputs"] >= MINIMUM_TEMPLATE_INPUTS,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"median_inputs": figures["median_inputs"], "minimum": MINIMUM_TEMPLATE_INPUTS},
        )

    return template_depth


def _diffs_complete(template_type: str) -> dg.AssetChecksDefinition:
    @_check("diffs", template_type=template_type)
    def diffs_complete(context: dg.AssetCheckExecutionContext, repository: ButlerRepository) -> dg.AssetCheckResult:
        """Every calibrated exposure of the night has a difference image."""
        from proc_decam_dagster.report import missing_differences

        key = context.partition_key.keys_by_dimension
        expected, missing = missing_differences(repository.open(), key[NIGHT], key[COADD_SUBSET], template_type)
        return dg.AssetCheckResult(
            passed=expected > 0 and not missing,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"expected": expected, "missing": dg.MetadataValue.json([list(m) for m in missing[:100]])},
        )

    return diffs_complete


CHECKS = [
    raws_complete,
    _certified("bias"),
    _certified("flat"),
    calexps_complete,
    astrometric_scatter,
    exposures_in_skymap,
    *(make(template_type) for template_type in TEMPLATE_TYPES for make in (_template_depth, _diffs_complete)),
]
