"""Reference catalogues: LSST-format htm7 shards, ingested where they lie, their content checked against their id."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from lsst.daf.butler import CollectionType

from proc_decam_dagster.archive.shard_check import check_shard
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import REFCATS


def ingest_refcats(repo: Repository, shards: Mapping[str, Iterable[str | os.PathLike]]) -> dict[str, int]:
    """Ingest shards into ``refcats/{catalogue}``, chain them as ``refcats``, and return how many were new of each.

    Parameters
    ----------
    shards : mapping
        Catalogue (``ps1``, ``gaia_dr3``, ``gaia_dr2``, or its dataset type's name) → paths of ``{htm7}.fits``.

    Raises
    ------
    SurveyError
        If a catalogue is unknown, or a shard is missing, unreadable, or not of its htm7 id; nothing is ingested then.
    """
    checked = {dataset_type_of(name): _check_shards(paths) for name, paths in shards.items()}
    counts = {}
    butler = repo.butler(writeable=True)
    with repo.lock(REFCATS, wait_seconds=60):
        runs = []
        for dataset_type, by_id in checked.items():
            run = f"{REFCATS}/{_short_name(dataset_type)}"
            with butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
                butler.collections.register(run, CollectionType.RUN)
            counts[dataset_type] = repo.engine.ingest_refcat_shards(butler, dataset_type, by_id, run)
            runs.append(run)
        butler.collections.register(REFCATS, CollectionType.CHAINED)
        chained = list(butler.collections.get_info(REFCATS).children)
        butler.collections.redefine_chain(REFCATS, chained + [run for run in runs if run not in chained])
    return counts


def dataset_type_of(name: str) -> str:
    """Return the dataset type of a catalogue, given by its short name or by that of its dataset type.

    Raises
    ------
    SurveyError
        If the catalogue is unknown.
    """
    if name in datasets.REFCATS:
        return datasets.REFCATS[name]
    if name in datasets.REFCATS.values():
        return name
    known = ", ".join(f"{short} ({full})" for short, full in datasets.REFCATS.items())
    raise SurveyError(f"reference catalogue {name!r} is unknown", f"one of {known}")


def _short_name(dataset_type: str) -> str:
    return next(short for short, full in datasets.REFCATS.items() if full == dataset_type)


def _check_shards(paths: Iterable[str | os.PathLike]) -> dict[int, Path]:
    by_id = {}
    for path in map(Path, paths):
        by_id[check_shard(path)] = path.resolve()
    return by_id
