"""The asset graph, derived from the proc types' table: an asset depends on what its chain's inputs come from."""

import warnings

import dagster as dg

from proc_decam_dagster.partitions import COADD_SUBSET, COADD_SUBSETS, NIGHT, NIGHTS, NIGHTS_BY_SUBSET
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey.proc_types import PROC_TYPES

# Said once for every dependency, in the log of each process that loads the definitions.
warnings.filterwarnings("ignore", "Class `MultiToSingleDimensionPartitionMapping`", dg.BetaWarning)

ASSET_OF_PROC_TYPE = {"bias": "bias", "flat": "flat", "drp": "calexps", "coadd": "coadds", "diff_drp": "diffs"}

ASSET_OF_COLLECTION = {
    names.CALIB: "curated_calibs",
    names.CALIB_BPM: "defects",
    names.REFCATS: "refcats",
    names.SKYMAPS: "skymap",
    names.FAKES: "fakes",
    names.raw_collection("{subset}", "bias"): "raws",
    names.raw_collection("{subset}", "flat"): "raws",
    names.raw_collection("{subset}", "drp"): "raws",
    names.calib_collection("{subset}", "bias"): "bias",
    names.calib_collection("{subset}", "flat"): "flat",
    names.coadd_inputs_collection("{coadd_subset}", "{template_type}"): "coadd_inputs",
    "{coadd_subset}/{template_type}/coadd": "coadds",
    "{subset}/drp": "calexps",
}
"""Which asset fills each input collection of the proc types' table."""

PARTITIONS = {
    "raws": NIGHTS,
    "bias": NIGHTS,
    "flat": NIGHTS,
    "calexps": NIGHTS,
    "coadd_inputs": NIGHTS_BY_SUBSET,
    "coadds": COADD_SUBSETS,
    "diffs": NIGHTS_BY_SUBSET,
}
"""Partitions of the assets that have any."""

PER_TEMPLATE_TYPE = {"coadd_inputs", "coadds", "diffs"}


def asset_key(name: str, template_type: str = "") -> dg.AssetKey:
    """Return an asset's key; those of a template type carry it as prefix."""
    return dg.AssetKey([template_type, name] if name in PER_TEMPLATE_TYPE else [name])


def _mapping(upstream: str, downstream: str) -> dg.PartitionMapping | None:
    """Return how partitions correspond; `None` leaves it to Dagster (same partitions, or none upstream).

    Only built-in mappings: Dagster drops custom ones from the repository snapshot.
    """
    pair = PARTITIONS.get(upstream), PARTITIONS.get(downstream)
    if pair == (NIGHTS, NIGHTS_BY_SUBSET):
        return dg.MultiToSingleDimensionPartitionMapping(NIGHT)
    if pair in ((COADD_SUBSETS, NIGHTS_BY_SUBSET), (NIGHTS_BY_SUBSET, COADD_SUBSETS)):
        return dg.MultiToSingleDimensionPartitionMapping(COADD_SUBSET)
    return None


def dependency(upstream: str, downstream: str, template_type: str = "") -> dg.AssetDep:
    """Return the dependency of one asset on another, with its partition mapping."""
    return dg.AssetDep(asset_key(upstream, template_type), partition_mapping=_mapping(upstream, downstream))


def dependencies(proc_type: str, template_type: str = "") -> list[dg.AssetDep]:
    """Return the dependencies of a proc type's asset, in the order of its chain's inputs."""
    asset = ASSET_OF_PROC_TYPE[proc_type]
    upstream = dict.fromkeys(ASSET_OF_COLLECTION[pattern] for pattern in PROC_TYPES[proc_type].inputs)
    return [dependency(name, asset, template_type) for name in upstream]
