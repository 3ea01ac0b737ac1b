"""Partitions: nights, coadd subsets, and both; named after the survey, since Dagster shares them instance-wide."""

import os

import dagster as dg

SURVEY = os.environ.get("PROC_DECAM_SURVEY", "decam")

NIGHT, COADD_SUBSET = "night", "coadd_subset"
"""Names of the dimensions. Multi-partition keys are ordered by them, so a cell reads ``2019|20190401``."""

NIGHTS = dg.DynamicPartitionsDefinition(name=f"{SURVEY}_night")
COADD_SUBSETS = dg.DynamicPartitionsDefinition(name=f"{SURVEY}_coadd_subset")
NIGHTS_BY_SUBSET = dg.MultiPartitionsDefinition({NIGHT: NIGHTS, COADD_SUBSET: COADD_SUBSETS})


def add_nights(instance: dg.DagsterInstance, nights: list[str]) -> list[str]:
    """Register nights that are not yet partitions, in order, and return them.

    They are added sorted: ranges of dynamic partitions follow the order of insertion.
    """
    known = set(instance.get_dynamic_partitions(NIGHTS.name))
    new = sorted(set(nights) - known)
    if new:
        instance.add_dynamic_partitions(NIGHTS.name, new)
    return new


def add_coadd_subset(instance: dg.DagsterInstance, name: str) -> None:
    """Register a coadd subset, if it is not yet a partition."""
    if name not in instance.get_dynamic_partitions(COADD_SUBSETS.name):
        instance.add_dynamic_partitions(COADD_SUBSETS.name, [name])


def cell(night: str, coadd_subset: str) -> dg.MultiPartitionKey:
    """Return the partition key of a night in a coadd subset."""
    return dg.MultiPartitionKey({NIGHT: night, COADD_SUBSET: coadd_subset})
