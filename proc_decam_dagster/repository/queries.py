"""What is in the repository: dataset references, and where their files are."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lsst.daf.butler import ButlerUserError, DatasetRef, MissingCollectionError, MissingDatasetTypeError

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.exclusions import exclusion_terms
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import RAW_ALL, raw_collection

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository


def find_refs(
    repo: "Repository", dataset_type: str, collections: str | Iterable[str], where: str = "", **bind: Any
) -> list[DatasetRef]:
    """Return the datasets of a type that a search of the collections finds first, sorted by data id.

    A dataset type or collection that is not registered holds nothing: the list is then empty.
    """
    try:
        refs = repo.butler().query_datasets(
            dataset_type, collections=collections, where=where, bind=bind, find_first=True, limit=None, explain=False
        )
    except (MissingDatasetTypeError, MissingCollectionError):
        return []
    return sorted(refs, key=lambda ref: tuple(ref.dataId.required_values))


def find_made(repo: "Repository", dataset_type: str, task: str, collections: str | Iterable[str]) -> list[DatasetRef]:
    """Return the datasets of a type that are what their task, which has the same dimensions, made the last time.

    A task that is run again and finds no work (its input is excluded by now, or no longer accepted) writes metadata
    alone: a search still finds what it made before.
    """
    newest = {ref.dataId.required_values: ref.run for ref in find_refs(repo, f"{task}_metadata", collections)}
    refs = find_refs(repo, dataset_type, collections)
    return [ref for ref in refs if newest.get(ref.dataId.required_values, ref.run) == ref.run]


def find_certified(repo: "Repository", dataset_type: str, collection: str) -> list[DatasetRef]:
    """Return the datasets certified into a CALIBRATION collection; none if it is not registered."""
    registry = repo.butler().registry
    try:
        return [a.ref for a in registry.queryDatasetAssociations(dataset_type, collections=[collection])]
    except (MissingDatasetTypeError, MissingCollectionError):
        return []


class Master(NamedTuple):
    """What a master calibration is for: a detector, and a physical filter if it is a flat (else empty)."""

    detector: int
    physical_filter: str = ""

    @property
    def data_id(self) -> dict[str, Any]:
        """The data id, without the instrument."""
        return {"detector": self.detector} | ({"physical_filter": self.physical_filter} if self.physical_filter else {})


def master_of(ref: DatasetRef, by_filter: bool = False) -> Master:
    """Return which master a dataset is, or, for one of an exposure, goes into (with its filter if ``by_filter``)."""
    name = ref.dataId.get("physical_filter", "") if "exposure" not in ref.dataId.dimensions else ""
    if by_filter and not name:
        name = ref.dataId.records["exposure"].physical_filter
    return Master(ref.dataId["detector"], name)


def source_night(ref: DatasetRef) -> str:
    """Return the night whose chain made a master, from the name of its RUN."""
    return ref.run.partition("/")[0]


def night_frames(
    repo: "Repository", night: str, proc_type: str, *, by_filter: bool, where: str = "",
    exposures: Collection[int] = (),
) -> dict[Master, set[int]]:  # fmt: skip
    """Return which exposures of a night go with each master: what it is made from, or is needed for.

    Parameters
    ----------
    night, proc_type : `str`
        Whose raws, of ``{night}/{proc_type}/raw``; what the survey excludes is left out.
    by_filter : `bool`
        Whether the master is one of a filter (a flat).
    where : `str`, optional
        Butler query that selects the raws.
    exposures : `~collections.abc.Collection` [`int`], optional
        Those that count, as far as they are ingested; the tagged ones if not given.
    """
    collection = RAW_ALL if exposures else raw_collection(night, proc_type)
    terms = [f"({where})"] if where.strip() else []
    if "instrument" not in where:
        terms.append(f"instrument='{INSTRUMENT}'")
    if exposures:
        terms.append(f"exposure IN ({', '.join(map(str, exposures))})")
    terms += exclusion_terms(repo, ("instrument", "exposure", "detector"), night)
    try:
        with told_where(where):
            refs = repo.butler().query_datasets(
                datasets.RAW, collections=collection, where=" AND ".join(terms), limit=None,
                explain=False, with_dimension_records=by_filter,
            )  # fmt: skip
    except (MissingDatasetTypeError, MissingCollectionError):
        return {}
    found: dict[Master, set[int]] = {}
    for ref in refs:
        found.setdefault(master_of(ref, by_filter), set()).add(ref.dataId["exposure"])
    return found


def path_of(repo: "Repository", ref: DatasetRef) -> str:
    """Return the path or URI of a dataset's file, for readers that do not know the Butler."""
    uri = repo.butler().getURI(ref)
    return uri.ospath if uri.isLocal else uri.geturl()


@contextmanager
def told_where(where: str) -> Iterator[None]:
    """Turn the Butler's complaint about a user's query into an error that says what such a query looks like.

    Raises
    ------
    SurveyError
        If the Butler does not understand ``where``.
    """
    try:
        yield
    except (MissingCollectionError, MissingDatasetTypeError):
        raise
    except ButlerUserError as error:
        if not where:
            raise
        raise SurveyError(
            f"the query {where!r} is not understood: {str(error).splitlines()[0].rstrip('.')}",
            'a Butler expression such as "detector IN (1..10) AND exposure > 845000"',
            "correct --where",
        ) from error
