"""What is in the repository: dataset references, and where their files are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lsst.daf.butler import ButlerUserError, DatasetRef, MissingCollectionError, MissingDatasetTypeError

from proc_decam_dagster.errors import SurveyError

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


def find_certified(repo: "Repository", dataset_type: str, collection: str) -> list[DatasetRef]:
    """Return the datasets certified into a CALIBRATION collection; none if it is not registered."""
    registry = repo.butler().registry
    try:
        return [a.ref for a in registry.queryDatasetAssociations(dataset_type, collections=[collection])]
    except (MissingDatasetTypeError, MissingCollectionError):
        return []


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
