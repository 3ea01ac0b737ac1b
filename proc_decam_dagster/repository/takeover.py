"""A repository of the replaced system taken over: nothing in it is moved, what ours keeps beside it is written."""

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from astropy.table import Table
from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.presence import has_collection, has_dataset_type
from proc_decam_dagster.repository.repository import Repository, open_repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import FAKES, coadd_inputs_collection, parse_chain
from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES


@dataclass
class Takeover:
    """What was found in a repository, and what was set.

    Attributes
    ----------
    skymap : `str`
        The survey's from now on; empty if there is none.
    chains : `dict` [`str`, `int`]
        Number of processing chains by proc type.
    nights : `list` [`str`]
        Nights that any of them processes.
    coadds : `dict` [`str`, `list` [`str`]]
        Coadd inputs collection → the nights that its warps are of.
    unknown : `list` [`str`]
        Chains whose name is none of ours; they stay, and no command looks at them.
    notes : `list` [`str`]
        What a user should know before going on.
    """

    skymap: str = ""
    chains: dict[str, int] = field(default_factory=dict)
    nights: list[str] = field(default_factory=list)
    coadds: dict[str, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def take_over(root: str | os.PathLike, *, exposures: Table | None = None, skymap: str = "") -> Takeover:
    """Make a repository that the replaced system made one of ours.

    The Butler's own content is only read: collections have the same names in both systems. Settings and exposure table
    are written beside it. May be run again.

    Parameters
    ----------
    exposures : `astropy.table.Table`, optional
        The survey's exposure table: which night a raw belongs to is looked up in it.
    skymap : `str`, optional
        Name of the survey's skymap; not needed where only one is registered.

    Raises
    ------
    SurveyError
        If it is no repository with a DECam of a known engine, or which skymap is meant cannot be told.
    """
    repository = open_repository(root)
    butler = repository.butler()
    found = Takeover(skymap=_skymap(repository, butler, skymap))
    chains = butler.collections.query("*", collection_types={CollectionType.CHAINED}, flatten_chains=False)
    counts: Counter[str] = Counter()
    nights: set[str] = set()
    for name in sorted(chains):
        try:
            chain = parse_chain(name)
        except ValueError:
            if "/" in name and not name.startswith("u/"):
                found.unknown.append(name)
            continue
        counts[chain.proc_type] += 1
        nights |= {chain.subset} - {""}
        if chain.proc_type == "coadd" and chain.template_type in TEMPLATE_TYPES:
            tag = coadd_inputs_collection(chain.coadd_subset, chain.template_type)
            found.coadds[tag] = _nights_of_warps(butler, tag)
    found.chains, found.nights = dict(counts), sorted(nights)
    if exposures is not None:
        repository.remember_exposures(exposures)
    _write_settings(repository, found)
    found.notes = _notes(repository, butler, found)
    repository.close()
    return found


def _skymap(repository: Repository, butler: Any, wanted: str) -> str:
    known = sorted(r.name for r in butler.query_dimension_records("skymap", limit=None, explain=False))
    wanted = wanted or repository.settings.skymap
    if wanted and wanted not in known:
        raise SurveyError(f"skymap {wanted!r} is not in {repository.root}", f"one of {', '.join(known) or 'none'}")
    if not wanted and len(known) > 1:
        raise SurveyError(
            f"{repository.root} has the skymaps {', '.join(known)}", "the one that the survey uses", "add --skymap NAME"
        )
    return wanted or (known[0] if known else "")


def _nights_of_warps(butler: Any, tag: str) -> list[str]:
    """Return the nights whose runs made the warps of a coadd's inputs."""
    warps = datasets.named(datasets.DIRECT_WARP)
    if not (has_collection(butler, tag) and has_dataset_type(butler, warps)):
        return []
    refs = butler.query_datasets(warps, [tag], find_first=False, limit=None, explain=False)
    return sorted({ref.run.split("/")[0] for ref in refs})


def _write_settings(repository: Repository, found: Takeover) -> None:
    settings = repository.settings
    recorded = {
        tag: {"nights": nights, "where": "", "coadd_name": datasets.COADD_NAME} for tag, nights in found.coadds.items()
    }
    repository.update_settings(
        survey=settings.survey or repository.root.name,
        created=settings.created or datetime.now(UTC).isoformat(timespec="seconds"),
        skymap=found.skymap,
        # Warps and coadds stand on it: it stays the survey's, whether it fits or not.
        skymap_fits=bool(found.skymap),
        coadd_inputs=recorded | settings.coadd_inputs,
    )


def _notes(repository: Repository, butler: Any, found: Takeover) -> list[str]:
    root, notes = repository.root, []
    if not found.skymap:
        notes.append(f"no skymap is registered: `proc-decam skymap {root} EXPOSURES_FILE` makes one that fits")
    if repository.exposures() is None:
        notes.append("no exposure table is known: nights cannot be tagged before one is given with --exposures")
    elif absent := sorted(set(found.nights) - {str(n) for n in repository.known_exposures()["night"]}):
        notes.append(f"the exposure table lacks the nights {', '.join(absent)}")
    if found.coadds or found.chains.get("drp"):
        notes.append(
            "warps of the replaced system are made of images with fakes injected, and so are its templates: run step3a "
            "of each night again, then `coadd`, before differences are compared with ours"
        )
    if has_collection(butler, FAKES) and butler.collections.get_info(FAKES).type is CollectionType.RUN:
        notes.append(f"{FAKES} is a RUN: before another table is ingested, `butler remove-runs {root} {FAKES}`")
    if found.unknown:
        notes.append(f"chains that no command of ours looks at: {', '.join(found.unknown)}")
    return notes
