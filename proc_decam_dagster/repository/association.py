"""TAGGED collections: datasets gathered from several chains, above all the inputs of a coadd."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.chains import run_stamp
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.exclusions import exclusions
from proc_decam_dagster.repository.presence import has_collection, has_dataset_type
from proc_decam_dagster.repository.queries import find_made, told_where
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import chain_name, coadd_inputs_collection
from proc_decam_dagster.survey.datasets import COADD_NAME
from proc_decam_dagster.survey.exclusions import Exclusions
from proc_decam_dagster.survey.proc_types import PROC_TYPES

log = logging.getLogger(__name__)


def associate(
    repo: Repository, collection: str, dataset_types: Iterable[str], collections: Sequence[str], where: str = ""
) -> int:
    """Add datasets to a TAGGED collection, the first found of each data id, and return how many were found.

    Raises
    ------
    SurveyError
        If a dataset type or collection does not exist, or the collection is not TAGGED.
    """
    butler = repo.butler(writeable=True)
    for name in collections:
        if not has_collection(butler, name):
            raise SurveyError(
                f"collection {name} does not exist", fix=f"`butler query-collections {repo.root}` lists all"
            )
    refs: list[Any] = []
    for name in dataset_types:
        if not has_dataset_type(butler, name):
            raise SurveyError(
                f"dataset type {name} does not exist", fix=f"`butler query-dataset-types {repo.root}` lists all"
            )
        refs += _query(butler, name, collections, where, repo.settings.skymap)
    if not refs:  # a mistyped query makes no empty collection
        return 0
    with repo.lock(collection, wait_seconds=60):
        _register_tagged(butler, collection)
        butler.registry.associate(collection, refs)
    return len(refs)


def associate_coadd_inputs(
    repo: Repository,
    nights: Iterable[str],
    coadd_subset: str,
    template_type: str,
    coadd_name: str = COADD_NAME,
    where: str | None = None,
    add: bool = False,
) -> dict[str, int]:
    """Make ``{coadd_subset}/{template_type}/coadd/inputs`` anew and return the number of datasets of each type.

    It holds the warps and tables of the drp chains of all the given nights, and nothing else: what a night no longer
    has leaves it, and so do warps that their task, run again, has not made again, and those of a visit of which the
    list of exclusions leaves out a CCD since. It never holds a dataset of injected images.

    Parameters
    ----------
    nights : iterable of `str`
        The nights of the coadd subset.
    coadd_name : `str`
        What the warps' dataset type starts with.
    where : `str`, optional
        Restricts the datasets, in the Butler's expression language; it reaches the warps.
    add : `bool`
        Whether ``nights`` join those of the last time, rather than being all.

    Raises
    ------
    SurveyError
        If a night has no drp chain, or if no warps are found.
    """
    PROC_TYPES["coadd"].chain(coadd_subset=coadd_subset, template_type=template_type)  # the names are valid
    types = [datasets.named(t, coadd_name) for t in datasets.COADD_INPUTS]
    injected = [t for t in types if t.startswith(datasets.INJECTED)]
    if injected:
        raise SurveyError(f"{', '.join(injected)} hold fakes", "clean warps: templates never hold fakes")
    tag = coadd_inputs_collection(coadd_subset, template_type)
    butler = repo.butler(writeable=True)
    skymap, listed = repo.settings.skymap, exclusions(repo)
    with repo.lock(tag, wait_seconds=60):
        before = coadd_nights(repo, coadd_subset, template_type) if add else []
        nights = sorted({*map(str, nights), *before})
        wanted: dict[str, list[Any]] = {t: [] for t in types}
        for night in nights:
            chain = chain_name("drp", night)
            if not has_collection(butler, chain):
                raise SurveyError(
                    f"night {night} has no collection {chain}",
                    fix=f"run `proc-decam pipeline {repo.root} drp {night}` first",
                )
            made = set(find_made(repo, types[0], datasets.WARP_TASK, chain))
            places = {ref.dataId.required_values for ref in made}
            for name in types:
                found = _query(butler, name, [chain], where or "", skymap)
                if name in types[:2]:  # the warps
                    found = [r for r in found if r.dataId.required_values in places and not _outdated(r, listed, night)]
                wanted[name] += found
        if not wanted[types[0]]:
            raise SurveyError(
                f"nights {', '.join(nights)} have no {types[0]}" + (f" where {where}" if where else ""),
                "warps made by step3a of drp",
                f"run `proc-decam pipeline {repo.root} drp NIGHT --steps 3a` for each first",
            )
        _register_tagged(butler, tag)
        current = {ref for t in butler.collections.get_info(tag, include_summary=True).dataset_types or ()
                   for ref in _query_all(butler, t, tag)}  # fmt: skip
        new = {ref for refs in wanted.values() for ref in refs}
        with butler.transaction():
            butler.registry.disassociate(tag, current - new)
            butler.registry.associate(tag, new - current)
        with repo.lock("settings", wait_seconds=60):
            known = dict(repo.settings.coadd_inputs)
            known[tag] = {"nights": nights, "where": where or "", "coadd_name": coadd_name}
            repo.update_settings(coadd_inputs=known)
    counts = {name: len(refs) for name, refs in wanted.items()}
    log.info("%s: %s from %d nights", tag, counts, len(nights))
    return counts


def coadd_nights(repo: Repository, coadd_subset: str, template_type: str) -> list[str]:
    """Return the nights that a coadd's inputs were last gathered from; none before the first time."""
    return list(coadd_record(repo, coadd_subset, template_type).get("nights", []))


def coadd_record(repo: Repository, coadd_subset: str, template_type: str) -> dict[str, Any]:
    """Return how a coadd's inputs were last gathered: ``nights``, ``where``, ``coadd_name``; empty if never."""
    return dict(repo.settings.coadd_inputs.get(coadd_inputs_collection(coadd_subset, template_type), {}))


def _outdated(warp: Any, listed: Exclusions, night: str) -> bool:
    """Whether a warp is older than an entry of the list that leaves out a CCD of its very visit."""
    visit = warp.dataId["visit"]
    return any(
        visit in e.exposures and e.detectors and e.of_night(night) and run_stamp(warp.run) < e.stamp
        for e in listed.current
    )


def _register_tagged(butler: Any, collection: str) -> None:
    butler.collections.register(collection, CollectionType.TAGGED)
    kind = butler.collections.get_info(collection).type
    if kind is not CollectionType.TAGGED:
        raise SurveyError(f"collection {collection} is a {kind.name}", "a TAGGED collection, or a new name")


def _query(butler: Any, name: str, collections: Sequence[str], where: str, skymap: str) -> list[Any]:
    """Return the refs of a dataset type, the first found of each data id; none if the type is not registered."""
    if not has_dataset_type(butler, name):
        return []
    dimensions = butler.get_dataset_type(name).dimensions
    terms = [f"({where})"] if where else []
    if "instrument" in dimensions and "instrument" not in where:
        terms.append(f"instrument='{INSTRUMENT}'")
    if skymap and "skymap" in dimensions and "skymap" not in where:
        terms.append(f"skymap='{skymap}'")
    with told_where(where):
        return butler.query_datasets(name, collections, where=" AND ".join(terms), limit=None, explain=False)


def _query_all(butler: Any, name: str, collection: str) -> list[Any]:
    return butler.query_datasets(name, [collection], find_first=False, limit=None, explain=False)
