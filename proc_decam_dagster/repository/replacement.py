"""Raws replaced by themselves read anew: the former go when the new ones have come, and not before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proc_decam_dagster.repository.repository import Repository

SPARE = ".replaced"
"""Ending of the second name that a file in the repository has while it is replaced."""


@contextmanager
def replaced(repo: "Repository", old: list[Any], new: Any) -> Iterator[None]:
    """Take datasets out, for others to come in their place inside the context; if that fails, they stay as they were.

    Their registry entries go and come in one transaction. A file in the repository keeps a second name, a hard link,
    until that is committed: the ingest may put the new file in its place, and removes it again if it fails.

    Parameters
    ----------
    old : `list`
        Refs of the former datasets.
    new : callable
        Returns the refs of those that have come.
    """
    butler = repo.butler(writeable=True)
    spares = {path: path.with_name(path.name + SPARE) for path in _own_files(butler, old)}
    for path, spare in spares.items():
        spare.unlink(missing_ok=True)
        os.link(path, spare, follow_symlinks=False)
    try:
        with butler.transaction():
            # Not pruneDatasets: it removes the files at once, and a transaction that is rolled back brings none back.
            butler._datastore.forget(old)
            butler.registry.removeDatasets(old)
            yield
    except BaseException:
        for path, spare in spares.items():
            os.replace(spare, path)
            spare.unlink(missing_ok=True)  # the same file under both names: then replacing does nothing
        raise
    for path in spares.keys() - _own_files(butler, new()):
        path.unlink(missing_ok=True)
    for spare in spares.values():
        spare.unlink(missing_ok=True)


def _own_files(butler: Any, refs: list[Any]) -> set[Path]:
    """Return the local files of raws, one an exposure, that lie in the repository: others are not ours to remove."""
    found = set()
    for ref in {ref.dataId["exposure"]: ref for ref in refs}.values():
        with suppress(FileNotFoundError):  # registered, and no file is known
            uri = butler.getURI(ref)
            inside = any(root and uri.relative_to(root) for root in butler.get_datastore_roots().values())
            if inside and uri.isLocal and os.path.lexists(uri.ospath):
                found.add(Path(uri.ospath))
    return found
