"""Whether a collection or dataset type is registered."""

from typing import Any

from lsst.daf.butler import CollectionInfo, MissingCollectionError


def has_collection(butler: Any, name: str) -> bool:
    """Whether a collection of this name is registered."""
    return collection_info(butler, name) is not None


def collection_info(butler: Any, name: str) -> CollectionInfo | None:
    """Return what is known of a collection; `None` if it is not registered."""
    try:
        return butler.collections.get_info(name)
    except MissingCollectionError:
        return None


def has_dataset_type(butler: Any, name: str) -> bool:
    """Whether a dataset type of this name is registered."""
    return bool(list(butler.registry.queryDatasetTypes(name)))
