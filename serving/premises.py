"""What one running service holds of its machine: the lock on its data folder, a run folder, ports, and its processes.

Every process of the service inherits the run folder's path in `CHORUS_RUN`. That mark is how the leftovers of a killed
run are told from anything else: they are ended when the same data folder is served again, and nothing else is.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from serving import front
from serving.config import ServiceSettings
from serving.errors import Conflict
from serving.logs import log

MARK = "CHORUS_RUN"
FIRST_PORT, LAST_PORT = 20_000, 30_000  # Ray Serve's replicas begin at 30000
PATIENCE_S = 120  # Ray's 5 s for the first answer of its front are too short on a loaded machine
_GONE_S = 5.0  # how long a killed process may take to leave
_GIVEN: set[int] = set()  # ports that this process was given by `free_ports`


@dataclass(frozen=True)
class Premises:
    """The data folder, locked while this value is open, and the run folder, which is this run's alone."""

    data: Path
    run: Path  # short: the paths of Unix sockets end at 107 characters
    lock: int  # descriptor

    @classmethod
    def open(cls, data: Path) -> Self:
        """Lock the data folder, end what an earlier run left, and make a fresh run folder. Raises `Conflict`."""
        data.mkdir(parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Conflict(f"the data folder {data} is being served by another process", code="data_in_use") from None
        run = run_folder(data)
        try:
            reap(run)
            _renew(run)
        except BaseException:
            os.close(lock)
            raise
        return cls(data, run, lock)

    def close(self) -> None:
        """End what is left of this run, remove the run folder and give the data folder back."""
        reap(self.run)
        shutil.rmtree(self.run, ignore_errors=True)
        os.close(self.lock)


def run_folder(data: Path) -> Path:
    """The run folder of a data folder: the same at every start, and nobody else's."""
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"chorus-{os.getuid()}-{name}"


def reap(run: Path) -> int:
    """End every process that carries the mark of this run folder; returns how many there were."""
    return end_all(f"{MARK}={run}")


def end_all(mark: str) -> int:
    """End every other process of this user in whose environment is `mark`, NAME=value; returns how many there were."""
    deadline = time.monotonic() + _GONE_S
    ended: set[int] = set()
    while (left := _marked(mark)) and time.monotonic() < deadline:
        for pid in left - ended:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        ended |= left
        time.sleep(0.02)
    return len(ended)


def close_front(run: Path, seconds: float) -> bool:
    """Have the front take no new connections, end idle ones, and leave once it has answered what it has.

    Whether it left in time. Ray ends it on the spot, with requests half answered.
    """
    deadline = time.monotonic() + seconds
    asked: set[int] = set()
    while (fronts := {pid for pid in _marked(f"{MARK}={run}") if _is_front(pid, run)}) and time.monotonic() < deadline:
        for pid in fronts - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        asked |= fronts
        time.sleep(0.02)
    return not fronts


def environment(settings: ServiceSettings, premises: Premises, *, haproxy: Path, threads: int) -> dict[str, str]:
    """What Ray, HAProxy and the numeric libraries read from the environment, in this process and all below it.

    `haproxy` is the real binary; Ray gets a wrapper around it, written here. `threads` are those of an engine.
    """
    run = premises.run
    metrics, stats, fallback = free_ports(3)
    wrapper = front.write(run, host=settings.host, port=settings.port, metrics=metrics, stats=stats, binary=haproxy)
    token = run / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    return {
        MARK: str(run),
        # Ray: a cluster of one node on loopback, with a token, that tells nobody of itself.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the switch by which Ray stays on 127.0.0.1, on Linux as well
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # nobody would start it again
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        # What Ray does while nothing happens takes from the engines; who wants to see how it is asks us, not Ray.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",  # Ray's own is 0.1
        "RAY_enable_metrics_collection": "0",
        "RAY_event_stats": "0",
        "RAY_task_events_report_interval_ms": "0",  # never
        # HAProxy: sockets and files in the run folder, under names that are short enough.
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",  # where the wrapper's rules allow it
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run / "h" / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run / "h" / "a"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run / "h" / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run / "h"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run / "h" / "s"),
        **everywhere(settings, threads),
    }


def everywhere(settings: ServiceSettings, threads: int) -> dict[str, str]:
    """The part of the environment that every node of a cluster which others run needs as well."""
    longest_s = settings.limits.max_timeout_ms // 1000
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's workers would give way to whatever else runs (15 by its own default), and a starting engine hardly to them.
        "RAY_worker_niceness": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(512 << 20),  # hidden states of a whole call
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        # A busy machine: a front that is not up within these is ended, and whoever waits for it gets `ActorDiedError`.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(PATIENCE_S),
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": str(PATIENCE_S),
        # A request may take as long as its deadline allows, also while the front is exchanged.
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(longest_s + 60),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(longest_s + 10),
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(front.BUFFER_BYTES),
        # Arithmetic: an engine's threads; large buffers are kept rather than given back and faulted in again.
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "TOKENIZERS_PARALLELISM": "false",
    }


@contextmanager
def apart() -> Iterator[None]:
    """Processes that Ray starts meanwhile have sessions of their own; Ray itself has no setting for that.

    `timeout`, shells and supervisors signal the whole group of a process: without Ray nothing could be drained.
    """
    from ray._private import services  # noqa: PLC0415 - Ray reads the environment when it is imported

    within = services.ConsolePopen

    class Apart(within):  # type: ignore[misc, valid-type]
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options, start_new_session=True)

    services.ConsolePopen = Apart
    try:
        yield
    finally:
        services.ConsolePopen = within


def refuse_taken(host: str, port: int) -> None:
    """Raise `Conflict` where somebody listens on this address already, or it is none of this machine's."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:  # a host that no name server knows is one as well
        why = f"can not listen on {host}:{port} (--host, --port): {error.strerror}"
        raise Conflict(why, code="port_in_use") from error


def refuse_scattered(settings: ServiceSettings, environ: Mapping[str, str]) -> None:
    """Raise `Conflict` where several nodes would have to share what lies on one, or where Ray would let anybody in.

    Nodes that lack a part of their environment serve, though some requests are cut off: the log tells what is missing.
    """
    if not settings.ray_address:
        return
    if not (settings.database_url.startswith("postgresql") and settings.blob_url):
        raise Conflict(
            f"engines on other nodes (ray_address {settings.ray_address!r}) reach neither SQLite nor a blob folder of "
            "this one: set database_url to a PostgreSQL server and blob_url to a bucket",
            code="not_shared",
        )
    if environ.get("RAY_AUTH_MODE") != "token":
        raise Conflict(
            "a Ray cluster without RAY_AUTH_MODE=token runs anybody's code: set it on every node", code="no_token"
        )
    if missing := sorted(everywhere(settings, settings.threads).keys() - environ.keys()):
        said = "this node was started without a part of the environment in deploy/kuberay/rayservice.yaml"
        log("service", said, level=logging.WARNING, missing=missing)


def _renew(run: Path) -> None:
    """An empty folder that only we can enter; the place is known to all, so a planted one is refused."""
    run.mkdir(mode=0o700, exist_ok=True)
    held = run.lstat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.getuid() or held.st_mode & 0o077:
        raise Conflict(f"{run} is not a private folder of this user: remove it", code="run_folder")
    for entry in run.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()


def _marked(mark: str) -> set[int]:
    """Ids of this user's processes whose environment carries the mark; zombies have none."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark.encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or another user's
            continue
        if marked and int(entry.name) != os.getpid():
            found.add(int(entry.name))
    return found


def _is_front(pid: int, run: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # gone meanwhile
        return False
    return b"-f" in words and any(word.startswith(f"{run}/h/".encode()) for word in words)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses, below those that the kernel gives to outgoing connections.

    A port that the kernel hands out may become a connection's own before it is listened on. A process is never given
    one twice: what it was given before may not be listened on yet.
    """
    found: list[int] = []
    while len(found) < count:
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        if port not in _GIVEN and _binds(port):
            _GIVEN.add(port)
            found.append(port)
    return found


def _binds(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
