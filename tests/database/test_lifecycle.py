"""Create, start, stop and status, again and again; after a crash, a reboot, a taken port."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest
import yaml

from proc_decam_dagster.database.cluster import Cluster, ClusterSettings
from proc_decam_dagster.database.server import running
from proc_decam_dagster.repository import create_repository, open_repository

from .conftest import Served, free_port


def pid_of(served) -> int:
    return running(served.cluster, served.cluster.server_user()).pid


def test_the_command_lines_of_the_reference_run_as_typed(postgres, folder, auth_file):
    """`./repo`, below a path that a shell would trip over, and that is too long for a unix socket."""
    from click.testing import CliRunner

    from proc_decam_dagster.cli.main import main

    place = folder / 'it\'s a $HOME "x"' / ("long" * 20)
    place.mkdir(parents=True)
    before, port = os.getcwd(), str(free_port())
    os.chdir(place)
    try:
        for line in ("create ./repo --port", "start ./repo --port", "stop ./repo --db-name proc_decam_registry --port"):
            result = CliRunner().invoke(main, ["db", *line.split(), port])
            assert result.exit_code == 0, result.output
    finally:
        os.chdir(before)
    assert Cluster(place / "repo").socket_folder.parent != Cluster(place / "repo").folder
    assert result.output == "repo: stopped\n" or "stopped" in result.output


def test_each_command_again_changes_nothing(started):
    pid = pid_of(started)
    assert "nothing to create" in started.db("create").output
    assert "running already" in started.db("start").output and pid_of(started) == pid
    assert "stopped" in started.db("stop").output
    assert "was not running" in started.db("stop").output
    assert "not running" in started.db("status", code=3).output
    assert f"started, port {started.port}" in started.db("start").output
    status = started.db("status").output
    for told in (r"running, process \d+ since", rf"PostgreSQL {postgres_version()}", f":{started.port}/proc_decam_reg",
                 r"\d+ of 200", r"proc_decam_registry, \d+\.\d MB", "schema public", "this machine"):  # fmt: skip
        assert re.search(told, status), status


def postgres_version() -> str:
    from proc_decam_dagster.database.programs import find_programs

    return re.escape(find_programs().version)


def test_a_killed_server_starts_again_with_all_that_was_committed(started):
    assert started.psql("CREATE TABLE kept AS SELECT 1 AS x", password=started.password()).returncode == 0
    try:
        os.kill(pid_of(started), signal.SIGKILL)
        assert "started" in started.db("start").output
        assert started.psql("SELECT x FROM kept", password=started.password()).stdout == "1\n"
    finally:
        started.psql("DROP TABLE kept", password=started.password())
    assert open_repository(started.root).engine.name == "embedded"


def test_a_pid_that_is_anothers_by_now(started):
    """After a reboot the number in postmaster.pid belongs to some process of the same user; Postgres alone gives up."""
    pid_file = started.cluster.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    user = started.cluster.server_user()
    started.db("stop")
    other = subprocess.Popen(["sleep", "60"], user=user.uid)
    try:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        os.chown(pid_file, user.uid, user.gid)
        assert "not running" in started.db("status", code=3).output
        assert "was not running" in started.db("stop").output and other.poll() is None
        assert "started" in started.db("start").output and other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_server_of_another_machine_is_left_alone(started):
    started.db("stop")
    pid_file = started.cluster.data / "postmaster.pid"
    started.cluster.change(host="elsewhere")
    pid_file.write_text("1\n/x\n1\n1\n")
    try:
        assert "was started on elsewhere" in started.db("start", code=1).output
        assert "`proc-decam db stop" in started.db("stop", code=1).output
    finally:
        pid_file.unlink()
    started.db("start")
    assert started.cluster.settings.host == socket.gethostname()


def test_a_taken_port_is_told_with_a_free_one(started, folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = Served(folder / "repo", port).db("create", "--port", port, code=1).output
        assert f"port {port} of 127.0.0.1 is taken" in told and not (folder / "repo").exists()
        assert int(re.search(r"db create .* --port (\d+)`", told)[1]) > port
        told = started.db("start", "--port", port, code=1).output
    assert "is taken" in told and started.cluster.settings.port == started.port
    assert started.psql("SELECT 1", password=started.password()).stdout == "1\n"


def test_another_port_takes_the_repository_along(started):
    before, port = started.port, free_port()
    password = started.password()
    started.db("start", "--port", port)
    try:
        started.port = port
        assert started.password() == password
        assert yaml.safe_load(started.cluster.butler_file.read_text())["registry"]["db"].endswith(
            f":{port}/proc_decam_registry"
        )
        repository = open_repository(started.root)
        assert repository.engine.name == "embedded"
        repository.close()
    finally:
        started.port = before
        started.db("start", "--port", before)
    assert started.psql("SELECT 1", password=password).stdout == "1\n"


def test_the_server_goes_on_without_its_starter(started):
    started.db("stop")
    words = ["-c", "from proc_decam_dagster.cli.main import main; main()", "db", "start", str(started.root)]
    import sys

    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, start_new_session=True)
    assert done.returncode == 0, done.stderr
    time.sleep(0.2)
    assert os.getsid(pid_of(started)) == pid_of(started)


def test_a_repository_with_another_registry_is_left_as_it_is(postgres, folder, auth_file):
    create_repository(folder / "repo").close()
    before = sorted(p.name for p in (folder / "repo").iterdir())
    told = Served(folder / "repo", 0).db("create", "--port", free_port(), code=1).output
    assert "SQLite" in told and f"proc-decam db create {folder}/repo-pg" in told
    assert sorted(p.name for p in (folder / "repo").iterdir()) == before


@pytest.mark.parametrize("action", ["start", "stop", "status", "grant someone", "backup x"])
def test_without_a_cluster_the_remedy_is_named(folder, action):
    first, *rest = action.split()
    assert f"`proc-decam db create {folder}`" in Served(folder, 0).db(first, *rest, code=1).output


@pytest.mark.parametrize(
    "words, told",
    [
        (["--db-name", "x-y"], "small letters"), (["--listen", "10.0.0.1"], "--allow CIDR"),
        (["--allow", "10.0.0.0/8"], "add --listen"),
        (["--listen", "10.0.0.1", "--allow", "0.0.0.0/0"], "whole internet"),
        (["--listen", "10.0.0.1", "--allow", "10.0.0.1/8"], "is no network"),
        (["--listen", "a'b", "--allow", "10.0.0.0/8"], "is no address"),
        (["--listen", "192.0.2.1", "--allow", "192.0.2.0/24", "--port", "54444"], "cannot listen on 192.0.2.1"),
    ],
)  # fmt: skip
def test_wrong_options_make_nothing(postgres, folder, auth_file, words, told):
    assert told in Served(folder / "repo", 0).db("create", *words, code=1).output
    assert not (folder / "repo").exists()


def test_a_failed_repository_can_be_made_again(postgres, folder, auth_file, monkeypatch):
    import proc_decam_dagster.repository as repository_part
    from proc_decam_dagster.errors import SurveyError
    from proc_decam_dagster.repository import create

    def fail(*_, **__):
        raise SurveyError("the disk is gone")

    served = Served(folder / "repo", free_port())
    with monkeypatch.context() as patched:
        patched.setattr(create, "register_skymap", fail)
        assert "the disk is gone" in served.db("create", "--port", served.port, code=1).output
    assert repository_part.create_repository is create.create_repository
    assert "repository created" in served.db("create").output
    (served.root / "butler.yaml").rename(served.root / "lost.yaml")
    assert "butler.yaml is gone" in served.db("create", code=1).output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_a_folder_that_the_servers_user_may_not_enter(postgres, folder, auth_file):
    folder.chmod(0o700)
    told = Served(folder / "repo", 0).db("create", "--port", free_port(), code=1).output
    assert f"chmod o+x {folder}" in told


def test_settings_survive_and_hold_no_secret(started):
    values = yaml.safe_load(started.cluster.settings_file.read_text())
    assert set(values) == set(ClusterSettings.__dataclass_fields__)
    assert started.password() not in started.cluster.settings_file.read_text()
