"""Clean-up: what no chain finds any more is moved to the trash, from where it can be brought back, or freed for good.

The trash holds, for each clean-up, the Butler's own export of what was removed: files, registry entries, and their
places in collections. Bringing back is an import: every dataset has the id that it had.
"""

import fnmatch
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.chains import processing_chains
from proc_decam_dagster.repository.presence import has_dataset_type
from proc_decam_dagster.survey.collections import STAMP

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository

TRASH = "trash"
EXPORT = "export.yaml"
PARTIAL = ".part"
"""Ending of the folder of a clean-up that is under way, or was stopped."""
WAIT_SECONDS = 600.0
"""How long to wait for another clean-up."""
_HOLDING = {CollectionType.TAGGED, CollectionType.CALIBRATION}


@dataclass
class Rubbish:
    """Datasets of one chain that can go.

    Attributes
    ----------
    chain : `str`
        The processing chain.
    refs : `list`
        Datasets that its search does not find, or that were asked for by name.
    kept : `int`
        Datasets that would have gone, but that a TAGGED or CALIBRATION collection holds: a coadd's inputs, for
        instance, or certified masters.
    bytes : `int`
        Of their files.
    """

    chain: str
    refs: list[Any] = field(default_factory=list)
    kept: int = 0
    bytes: int = 0


@dataclass
class Trashed:
    """One clean-up in the trash: its name (a UTC stamp), how many datasets, and the bytes that emptying it frees."""

    name: str
    datasets: int
    bytes: int


def find_rubbish(repo: "Repository", pattern: str = "*", dataset_types: Iterable[str] = ()) -> list[Rubbish]:
    """Return what can go from the chains that a shell-like pattern matches; nothing is changed.

    Parameters
    ----------
    pattern : `str`
        Names of chains, such as ``2019*/drp``.
    dataset_types : iterable of `str`
        Intermediate products of which everything goes, also what the chain's search finds. Without any, only what is
        superseded goes: a newer RUN of the chain has the same.

    Raises
    ------
    SurveyError
        If no chain matches, or a dataset type does not exist.
    """
    butler = repo.butler()
    wanted = set(dataset_types)
    if unknown := sorted(name for name in wanted if not has_dataset_type(butler, name)):
        raise SurveyError(
            f"dataset type {', '.join(unknown)} does not exist",
            fix=f"`butler query-dataset-types {repo.root}` lists all",
        )
    chains = [c for c in processing_chains(butler) if fnmatch.fnmatchcase(c, pattern)]
    if not chains:
        raise SurveyError(f"no processing chain matches {pattern!r}", fix=f"`proc-decam status {repo.root}` shows them")
    return [rubbish for chain in chains if (rubbish := _of_chain(repo, chain, wanted)).refs or rubbish.kept]


def remove(repo: "Repository", rubbish: Iterable[Rubbish]) -> Trashed:
    """Move datasets to the trash; they leave the repository only when their export is complete.

    Raises
    ------
    SurveyError
        If another process works on one of the chains.
    """
    rubbish = [r for r in rubbish if r.refs]
    refs = [ref for r in rubbish for ref in r.refs]
    if not refs:
        raise SurveyError("there is nothing to remove", "some superseded or named datasets")
    butler = repo.butler(writeable=True)
    with _locked(repo, [r.chain for r in rubbish]), repo.lock("trash", wait_seconds=WAIT_SECONDS):
        folder = _new_folder(repo)
        partial = folder.with_name(folder.name + PARTIAL)
        partial.mkdir(parents=True)
        # A hard link takes no room and survives the removal of the original; another file system needs a copy.
        transfer = "hardlink" if _same_device(repo.root, partial) else "copy"
        with butler.export(directory=str(partial), filename=EXPORT, format="yaml", transfer=transfer) as export:
            export.saveDatasets(refs)
            for collection in sorted({ref.run for ref in refs}):
                export.saveCollection(collection)
        partial.rename(folder)
        butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
    return Trashed(folder.name, len(refs), sum(r.bytes for r in rubbish))


def bring_back(repo: "Repository", name: str) -> int:
    """Bring back what a clean-up removed, and return the number of datasets.

    Raises
    ------
    SurveyError
        If the trash has nothing of that name.
    """
    folder = _find(repo, name)
    butler = repo.butler(writeable=True)
    number = _datasets_in(folder)
    with repo.lock("trash", wait_seconds=WAIT_SECONDS):
        butler.import_(directory=str(folder), filename=str(folder / EXPORT), format="yaml", transfer="copy")
        shutil.rmtree(folder)
    return number


def trash(repo: "Repository") -> list[Trashed]:
    """Return what is in the trash, the oldest first; what a clean-up that was stopped has left there included."""
    found = sorted(f for f in _trash(repo).iterdir() if f.is_dir()) if _trash(repo).is_dir() else []
    return [Trashed(f.name, _datasets_in(f), _bytes(f)) for f in found]


def empty_trash(repo: "Repository", names: Iterable[str] = ()) -> list[Trashed]:
    """Free the space of some clean-ups for good (all if none is named); return them."""
    have = trash(repo)
    chosen = [t for t in have if t.name in set(names)] if names else have
    if missing := sorted(set(names) - {t.name for t in have}):
        _find(repo, missing[0])
    with repo.lock("trash", wait_seconds=WAIT_SECONDS):  # not while a clean-up fills its folder
        for thrown in chosen:
            shutil.rmtree(_trash(repo) / thrown.name)
    return chosen


def _of_chain(repo: "Repository", chain: str, wanted: set[str]) -> Rubbish:
    """Return what can go of one chain: of its own RUNs only, never of what it searches besides."""
    butler = repo.butler()
    children = butler.collections.get_info(chain).children
    own = [c for c in children if c.startswith(f"{chain}/")]
    infos = butler.collections.query_info(own, include_summary=True, flatten_chains=False) if own else ()
    types = {i.name: set(i.dataset_types or ()) for i in infos if i.type is CollectionType.RUN}
    runs = [c for c in own if c in types]  # the newest first
    number = Counter(t for run in runs for t in types[run])
    # What one RUN alone has is superseded by none.
    several = {t for t in number if number[t] > 1}
    rubbish = Rubbish(chain)
    gone, stay = set(), set()
    for name in number.keys() & wanted if wanted else several:
        every = set(butler.query_datasets(name, runs, find_first=False, limit=None, explain=False))
        found = set() if name in wanted else set(butler.query_datasets(name, runs, limit=None, explain=False))
        held = _held(butler, name) & (every - found) if every - found else set()
        rubbish.kept += len(held)
        gone |= every - found - held
        stay |= found | held
    # Configurations and versions tell how a RUN's data were made: they stay as long as any of these do.
    in_use = {ref.run for ref in stay if ref.datasetType.dimensions}
    in_use |= {r for r in runs for t in types[r] - several if butler.get_dataset_type(t).dimensions}
    rubbish.refs = sorted(
        (ref for ref in gone if ref.datasetType.dimensions or ref.run not in in_use),
        key=lambda ref: (ref.run, ref.datasetType.name, str(ref.dataId)),
    )
    rubbish.bytes = _size(butler, rubbish.refs)
    return rubbish


def _held(butler: Any, name: str) -> set[Any]:
    """Return the datasets of a type that a TAGGED or CALIBRATION collection holds."""
    found = butler.registry.queryDatasetAssociations(name, collections=..., collectionTypes=_HOLDING)
    return {association.ref for association in found}


def _size(butler: Any, refs: Iterable[Any]) -> int:
    """Return the bytes of datasets' files."""
    total = 0
    for ref in refs:
        try:
            total += butler.getURI(ref).size()
        except FileNotFoundError:  # registered, and its file is gone: it can go all the same
            continue
    return total


@contextmanager
def _locked(repo: "Repository", chains: Iterable[str]) -> Iterator[None]:
    """Hold the locks of chains."""
    with ExitStack() as stack:
        for chain in sorted(set(chains)):
            stack.enter_context(repo.lock(chain))
        yield


def _trash(repo: "Repository") -> Path:
    return Path(repo.state_dir) / TRASH


def _new_folder(repo: "Repository") -> Path:
    """Return a folder that is not there yet, even if two clean-ups come within a second."""
    stamp = datetime.now(UTC).strftime(STAMP)
    names = (stamp if number == 1 else f"{stamp}_{number}" for number in count(1))
    taken = {t.name.removesuffix(PARTIAL) for t in trash(repo)}
    return _trash(repo) / next(name for name in names if name not in taken)


def _find(repo: "Repository", name: str) -> Path:
    folder = _trash(repo) / name
    if name.endswith(PARTIAL) or not (folder / EXPORT).is_file():
        known = ", ".join(t.name for t in trash(repo)) or "it is empty"
        raise SurveyError(f"the trash has no clean-up {name}", f"one of: {known}")
    return folder


def _same_device(first: Any, second: Any) -> bool:
    return Path(first).stat().st_dev == Path(second).stat().st_dev


def _datasets_in(folder: Path) -> int:
    """Return the number of datasets in an export, from its text: parsing a big one takes long.

    None of one that was not completed: its datasets are all in the repository.
    """
    if folder.name.endswith(PARTIAL):
        return 0
    with (folder / EXPORT).open() as file:
        return sum(line.lstrip().startswith("- !uuid") for line in file)


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
