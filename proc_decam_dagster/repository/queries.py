"""What is in the repository: dataset references, and where their files are."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lsst.daf.butler import DatasetRef, MissingCollectionError, MissingDatasetTypeError

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
