"""Backup and restore: a round trip, a damaged file, a lost cluster."""

import shutil
import stat

from proc_decam_dagster.repository import open_repository


def collections(root) -> set[str]:
    repository = open_repository(root)
    try:
        return set(repository.butler().collections.query("*"))
    finally:
        repository.close()


def register(root, name):
    repository = open_repository(root)
    repository.butler(writeable=True).collections.register(name)
    repository.close()


def test_round_trip_then_from_nothing(started, folder):
    dump = folder / "registry.dump"
    register(started.root, "u/before")
    assert "read back whole" in started.db("backup", dump).output
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    register(started.root, "u/after")
    held = open_repository(started.root)  # somebody is connected all the while
    assert "u/after" in set(held.butler().collections.query("u/*"))

    assert "kept as database proc_decam_registry_replaced" in started.db("restore", dump).output
    assert "u/before" in collections(started.root) and "u/after" not in collections(started.root)
    assert "u/after" not in set(held.butler().collections.query("u/*"))
    held.close()
    register(started.root, "u/again")
    assert "proc_decam_registry_replaced" in started.db("status").output

    damaged = folder / "damaged.dump"
    damaged.write_bytes(dump.read_bytes()[: dump.stat().st_size * 2 // 3])
    assert "is not whole" in started.db("restore", damaged, code=1).output
    assert "does not exist" in started.db("restore", folder / "absent", code=1).output
    assert "u/again" in collections(started.root)
    assert [p.name for p in sorted(folder.iterdir())] == ["damaged.dump", "registry.dump"]

    # The disk with the cluster is lost; the repository's files are there.
    started.db("stop")
    shutil.rmtree(started.cluster.folder)
    assert "db restore" in started.db("create", code=1).output
    started.db("restore", dump)
    assert "u/before" in collections(started.root) and "u/again" not in collections(started.root)
    register(started.root, "u/new")
    assert "nothing to create" in started.db("create").output


def test_a_backup_that_cannot_be_written_leaves_nothing(started, folder):
    started.db("backup", folder / "absent" / "x.dump", code=1)
    (folder / "registry.dump").write_text("older")
    cluster = started.cluster
    settings = cluster.settings
    cluster.change(database="proc_decam_absent")
    try:
        assert "was not written" in started.db("backup", folder / "registry.dump", code=1).output
    finally:
        cluster.write_settings(settings)
    assert [p.name for p in folder.iterdir()] == ["registry.dump"]
    assert (folder / "registry.dump").read_text() == "older"
