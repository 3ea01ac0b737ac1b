"""The folders of a cluster: made with their owner and mode, and refused where the server's user cannot get at them."""

import os
from pathlib import Path

from proc_decam_dagster.database.cluster import Cluster
from proc_decam_dagster.database.programs import ServerUser
from proc_decam_dagster.errors import SurveyError


def make_folders(cluster: Cluster, user: ServerUser) -> None:
    """Make the cluster's folders, and check that the server's user can get at them.

    Raises
    ------
    SurveyError
        If a folder above them is closed to that user; or if the socket's folder below /tmp is somebody else's.
    """
    if not cluster.root.is_dir():
        cluster.root.mkdir(parents=True)
        if not user.is_me:
            cluster.root.chmod(cluster.root.stat().st_mode | 0o011)
    if not cluster.folder.is_dir():
        cluster.folder.mkdir()
        cluster.folder.chmod(0o755)
        if os.geteuid() == 0:
            status = cluster.root.stat()
            os.chown(cluster.folder, status.st_uid, status.st_gid)
    _require_passage(cluster.folder, user)
    _own(cluster.log.parent, user, 0o700)
    make_socket_folder(cluster, user)


def make_socket_folder(cluster: Cluster, user: ServerUser) -> None:
    """Make the folder of the unix socket; below /tmp it goes with every reboot."""
    folder = cluster.socket_folder
    _own(folder, user, 0o755)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != user.uid or status.st_mode & 0o022:
        raise SurveyError(
            f"{folder}, for the server's socket, is not a folder that only {user.name} may change", fix="remove it"
        )


def _own(folder: Path, user: ServerUser, mode: int) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    folder.chmod(mode)
    if not user.is_me:
        os.chown(folder, user.uid, user.gid)


def _require_passage(folder: Path, user: ServerUser) -> None:
    if user.is_me:
        return
    for path in (*reversed(folder.parents), folder):
        if user.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(path)], Path("/")).returncode:
            raise SurveyError(
                f"the server runs as {user.name} (Postgres refuses root), who may not pass through {path}",
                "a repository in folders that others may pass through",
                f"`chmod o+x {path}`, or choose another place",
            )
