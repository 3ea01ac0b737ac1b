"""The processing chains: the newest RUN first, then the inputs of the proc-type table, updated in one step."""

import re
from typing import Any

from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.presence import collection_info
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey.proc_types import ProcType
from proc_decam_dagster.survey.proc_types import proc_type as proc_type_row

WAIT_SECONDS = 60.0
_STAMP = re.compile(r"/(\d{8}T\d{6}Z)$")

_EMPTY_TYPES = {
    names.FAKES: CollectionType.CHAINED,
    names.REFCATS: CollectionType.CHAINED,
    names.SKYMAPS: CollectionType.RUN,
    names.CALIB: CollectionType.CALIBRATION,
    names.CALIB_BPM: CollectionType.CALIBRATION,
}
"""Inputs that may be empty: a survey without fakes has none, and a graph that needs one says what is missing."""


def update_chain(
    repo: Repository,
    proc_type: str,
    subset: str = "",
    coadd_subset: str = "",
    template_type: str = "",
    overwrite: bool = False,
) -> str:
    """Make or update the CHAINED collection of a proc type and return its name.

    Its children are its RUNs, the newest first, then the proc type's input collections in table order. Children that
    somebody else added stay, at the end, unless ``overwrite`` is set. Readers see the old chain or the new one.

    Raises
    ------
    SurveyError
        If a part of the name or an input that another command must make first is missing.
    """
    row = proc_type_row(proc_type)
    chain = row.chain(subset, coadd_subset, template_type)
    inputs = row.input_collections(subset, coadd_subset, template_type)
    with repo.lock(chain, wait_seconds=WAIT_SECONDS):
        butler = repo.butler()
        # One by one: a survey of a thousand nights has twenty thousand collections.
        info = {name: i for name in (chain, *inputs) if (i := collection_info(butler, name)) is not None}
        absent = [c for c in inputs if c not in info]
        kinds = {c: _kind_of_empty(c, subset) for c in absent}
        for collection in [c for c in absent if kinds[c] is None]:  # before anything is registered
            raise _lacks_input(repo, row, collection, subset, coadd_subset, template_type)
        if chain in info and info[chain].type is not CollectionType.CHAINED:
            raise SurveyError(f"collection {chain} is a {info[chain].type.name}", "a CHAINED collection")
        children = runs_of(butler, chain) + inputs
        if chain in info and not overwrite:
            children += [c for c in info[chain].children if c not in children]
        if absent or chain not in info or list(info[chain].children) != children:
            butler = repo.butler(writeable=True)
            for collection in absent:
                with butler.transaction():  # the two rows of a RUN at once: without one it takes no dataset ever
                    butler.collections.register(collection, kinds[collection])
            butler.collections.register(chain, CollectionType.CHAINED)
            butler.collections.redefine_chain(chain, children)
    return chain


def runs_of(butler: Any, chain: str) -> list[str]:
    """Return the RUNs that a chain's steps have made, the newest first."""
    runs = butler.collections.query(f"{chain}/*", collection_types={CollectionType.RUN}, flatten_chains=False)

    # Two steps within a second: the later step of the pipeline is the newer.
    return sorted(runs, key=lambda run: (run_stamp(run), run), reverse=True)


def new_run(butler: Any, parent: str) -> str:
    """Return a name for a RUN below a name, which is not taken even if two come within a second."""
    name, number = (stamp := names.stamped(parent)), 1
    while collection_info(butler, name) is not None:
        number += 1
        name = f"{stamp}_{number}"
    return name


def processing_chains(butler: Any) -> list[str]:
    """Return the names of the processing chains that are there, sorted."""
    found = butler.collections.query("*", collection_types={CollectionType.CHAINED}, flatten_chains=False)
    return sorted(filter(names.is_processing_chain, found))


def run_stamp(run: str) -> str:
    """Return when a RUN was made, as its name says; empty for a name without a stamp, which sorts first."""
    stamp = _STAMP.search(run)
    return stamp.group(1) if stamp else ""


def _kind_of_empty(collection: str, subset: str) -> CollectionType | None:
    """Return as what an input that may be empty is registered; `None` for one that another command must make first."""
    if collection in (names.calib_collection(subset, d) for d in ("bias", "flat")):
        return CollectionType.CALIBRATION
    return _EMPTY_TYPES.get(collection)


def _lacks_input(
    repo: Repository, row: ProcType, collection: str, subset: str, coadd_subset: str, template_type: str
) -> SurveyError:
    """Return the error that names the command which makes an input."""
    options = f"--coadd-subset {coadd_subset} --template-type {template_type}"
    made_by = {
        names.raw_collection(subset, row.name): f"proc-decam raw {repo.root} {row.name} {subset}",
        names.chain_name("drp", subset): f"proc-decam pipeline {repo.root} drp {subset}",
        names.coadd_inputs_collection(coadd_subset, template_type): f"proc-decam coadd {repo.root} NIGHTS {options}",
        names.chain_name("coadd", "", coadd_subset, template_type): f"proc-decam coadd {repo.root} NIGHTS {options}",
    }
    return SurveyError(
        f"{row.name} of {subset or coadd_subset} needs the collection {collection}, which does not exist",
        fix=f"run `{made_by[collection]}` first" if collection in made_by else "",
    )
