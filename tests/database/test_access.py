"""Who gets in and who does not; where the password is, and where it is not."""

import os
import stat
from pathlib import Path

import pytest
import yaml

from proc_decam_dagster.repository import open_repository


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_right_password_opens(started):
    assert started.psql("SELECT current_user", password=started.password()).stdout == "proc_decam\n"
    for wrong in ("", "wrong", started.password()[:-1]):
        refused = started.psql("SELECT 1", password=wrong)
        assert refused.returncode == 2 and ("password" in refused.stderr)
    admin = started.psql("SELECT 1", user="proc_decam_admin", password=started.password())
    assert admin.returncode == 2 and "rejects connection" in admin.stderr
    assert started.psql("SELECT 1", dbname="postgres", user="nobody", password="x").returncode == 2


def test_over_the_socket_a_password_is_needed_too(started):
    socket = started.cluster.socket_folder
    assert started.psql("SELECT 1", host=socket, password=started.password()).stdout == "1\n"
    assert started.psql("SELECT 1", host=socket, password="wrong").returncode == 2
    assert started.psql("SELECT 1", host=socket, user="proc_decam_admin").returncode == (2 if os.geteuid() == 0 else 0)


def test_the_password_is_nowhere_else(started, auth_file):
    """Neither in what commands said, nor in the repository, the logs, the data or the write-ahead log."""
    password = started.password()
    assert len(password) >= 32 and password in auth_file.read_text()
    assert not any(password in said for said in started.said)
    holding = [p for p in started.root.rglob("*") if p.is_file() and password.encode() in p.read_bytes()]
    assert holding == [started.cluster.credentials_file]
    assert "127.0.0.1" in yaml.safe_load(started.cluster.butler_file.read_text())["registry"]["db"]


def test_modes(started, auth_file):
    cluster = started.cluster
    owner = cluster.server_user().uid
    for path, expected in ((cluster.data, 0o700), (cluster.log.parent, 0o700), (cluster.log, 0o600),
                           (cluster.data / "pg_hba.conf", 0o600), (cluster.socket_folder, 0o755)):  # fmt: skip
        assert (mode(path), path.stat().st_uid) == (expected, owner), path
    assert owner != 0
    for path in (cluster.credentials_file, auth_file):
        assert (mode(path), path.stat().st_uid) == (0o600, os.geteuid()), path
    assert mode(cluster.settings_file) == 0o644


def test_what_the_server_is_set_to(started):
    def show(name: str) -> str:
        return started.psql(f"SHOW {name}", password=started.password()).stdout.strip()

    assert [show(n) for n in ("fsync", "full_page_writes", "data_checksums", "password_encryption", "lc_collate")] == (
        ["on", "on", "on", "scram-sha-256", "C"]
    )
    assert show("listen_addresses") == "127.0.0.1" and int(show("max_connections")) >= 100
    found = started.psql("SELECT extname FROM pg_extension", password=started.password()).stdout
    assert "btree_gist" in found


def test_a_person_gets_a_role_of_their_own(started, folder, monkeypatch):
    for words, may_write in (["maria"], True), (["guest", "--read-only"], False):
        path = folder / f"{words[0]}.yaml"
        told = started.db("grant", *words, "--to", path).output
        [entry] = yaml.safe_load(path.read_text())
        assert mode(path) == 0o600 and entry["username"] == words[0] and entry["password"] not in told
        assert "(--new-password" in started.db("grant", *words).output
        asked = started.psql("SELECT session_user, current_user", user=words[0], password=entry["password"]).stdout
        assert asked == f"{words[0]}|{'proc_decam' if may_write else words[0]}\n"
        monkeypatch.setenv("LSST_DB_AUTH", str(path))
        repository = open_repository(started.root)
        assert list(repository.butler().query_dimension_records("instrument"))
        if may_write:
            repository.butler(writeable=True).collections.register(f"u/{words[0]}")
        else:
            with pytest.raises(Exception, match="permission denied"):
                repository.butler(writeable=True).collections.register(f"u/{words[0]}")
        repository.close()
        monkeypatch.undo()
        if not may_write:
            continue
        started.db("grant", *words, "--new-password", "--to", folder / "again.yaml")
        assert started.psql("SELECT 1", user="maria", password=entry["password"]).returncode == 2
    assert "people:      guest, maria" in started.db("status").output
    for name in ("proc_decam", "postgres", "a b", "Maria", "x;drop"):
        assert "cannot be the name" in started.db("grant", name, code=1).output


def server_line(started):
    """Return what `status` says about the server, its process among it."""
    (line,) = [line for line in started.db("status").output.splitlines() if line.startswith("server:")]
    return line


def test_an_address_of_another_machine_changes_nothing(started):
    settings, server = started.cluster.settings, server_line(started)
    told = started.db("create", "--listen", "192.0.2.1", "--allow", "192.0.2.0/24", code=1).output
    assert "cannot listen on 192.0.2.1" in told
    assert started.cluster.settings == settings and server_line(started) == server


def test_other_machines_come_in_over_tls_only(started):
    """127.0.0.2 stands for the machine's address in a cluster."""
    started.db("create", "--listen", "127.0.0.2", "--allow", "127.0.0.0/8", "--allow", "10.0.0.0/8")
    try:
        password = started.password()
        for host in ("127.0.0.2", "127.0.0.1"):
            asked = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert started.psql(asked, host=host, sslmode="require", password=password).stdout.startswith("TLSv1")
            refused = started.psql("SELECT 1", host=host, sslmode="disable", password=password)
            assert refused.returncode == 2 and "no encryption" in refused.stderr
            assert started.psql("SELECT 1", host=host, sslmode="require", password="wrong").returncode == 2
        pinned = {"host": "127.0.0.2", "sslmode": "verify-full", "sslrootcert": started.cluster.certificate}
        assert started.psql("SELECT 1", password=password, **pinned).stdout == "1\n"
        assert mode(started.cluster.data / "server.key") == 0o600
        uri = yaml.safe_load(started.cluster.butler_file.read_text())["registry"]["db"]
        assert uri == (
            f"postgresql://127.0.0.2:{started.port}/proc_decam_registry?sslmode=require&channel_binding=require"
        )
        repository = open_repository(started.root)
        assert repository.engine.name == "embedded"
        repository.close()
        assert "127.0.0.0/8, 10.0.0.0/8 (TLS)" in started.db("status").output
    finally:
        started.db("create", "--listen", "127.0.0.1")
    assert started.psql("SELECT 1", host="127.0.0.2", password=password).returncode == 2
    assert started.psql("SELECT 1", sslmode="disable", password=password).stdout == "1\n"
