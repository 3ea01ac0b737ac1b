"""Small files of a cluster: written whole, with the mode and the owner that they are to have from the beginning."""

import os
from pathlib import Path


def write_file(path: Path, text: str, *, mode: int = 0o644, owner: Path | None = None) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part, and no secret even briefly.

    Parameters
    ----------
    path : `pathlib.Path`
        A link is followed: what it points to is replaced.
    mode : `int`
        Of the file, whatever the umask says.
    owner : `pathlib.Path`, optional
        As root, the file is given to whom this one belongs.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            if owner is not None and os.geteuid() == 0:
                status = owner.stat()
                os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
