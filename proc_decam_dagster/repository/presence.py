"""Whether a collection or dataset type is registered."""

from typing import Any

from lsst.daf.butler import MissingCollectionError


def has_collection(butler: Any, name: str) -> bool:
    """Whether a collection of this name is registered."""
    try:
        butler.collections.get_info(name)
    except MissingCollectionError:
        return False
    return True


def has_dataset_type(butler: Any, name: str) -> bool:
    """Whether a dataset type of this name is registered."""
    return bool(list(butler.registry.queryDatasetTypes(name)))
