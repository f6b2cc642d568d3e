"""A real service in processes of its own, started as an operator starts it, for a proof to break."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import httpx2

from serving.premises import MARK, free_ports, run_folder

ROOT = Path(__file__).resolve().parents[2]
START_S = 300.0
STOP_S = 60.0


class StageFailed(Exception):
    """The service did not come up, or ended by itself; the message holds the end of its log."""


@dataclass
class Stage:
    """`chorus serve` on a data folder. `options` are further words of its command line."""

    backbone: Path
    data: Path
    engines: int = 1
    gateways: int = 1
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    key: str | None = None  # of scope operate, where the service has keys
    cores: frozenset[int] | None = None  # that the service may use; all of them
    program: str = "serving.cli"  # the module that is run, with the command line of `chorus`
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: "subprocess.Popen[bytes] | None" = None
    # one for all questions: making one takes longer than many answers, and that while a proof measures
    _asking: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=5))

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the service told since the first start."""
        return self.data / "service.log"

    def start(self) -> None:
        """Start and wait until every engine answers; raises `StageFailed`."""
        words = [sys.executable, "-m", self.program, "serve", "--backbone", self.backbone, "--data", self.data]
        words += ["--port", self.port, "--engines", self.engines, "--gateways", self.gateways, "--threads", 1]
        self.data.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        with self.log.open("a") as log:
            command = [str(word) for word in (*words, *self.options)]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)  # noqa: S603 - ours
        if self.cores is not None:
            os.sched_setaffinity(self.process.pid, self.cores)  # before it has started anything: all inherit it
        deadline = time.monotonic() + START_S
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StageFailed(f"the service did not start: {self._told()}")
            time.sleep(0.1)

    def ready(self) -> bool:
        """Whether every engine answers, and the start is over."""
        return self.complete() and self._last_word() == "serving"

    def complete(self) -> bool:
        """Whether as many engines answer as there should be, whatever was told meanwhile."""
        try:
            if self._asking.get(f"{self.url}/readyz").status_code != 200:
                return False
            told = self._asking.get(f"{self.url}/v1/residency", headers=_bearer(self.key)).json()
        except (httpx2.HTTPError, ValueError):
            return False
        return sum(bool(replica["ready"]) for replica in told.get("replicas", ())) == self.engines

    def stop(self) -> int:
        """SIGTERM, as a supervisor does it; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL to every process of the service at once."""
        assert self.process is not None
        for pid in (self.process.pid, *self.pids()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(STOP_S)

    def pids(self, title: str = "") -> list[int]:
        """Processes that belong to this service, and whose title holds `title` ("Engine", "Gateway")."""
        mark = f"{MARK}={run_folder(self.data)}".encode()
        found = (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
        return sorted(pid for pid in found if _belongs(pid, mark, title))

    def session(self, timeout_s: float = 60.0, key: str | None = None) -> aiohttp.ClientSession:
        """A session without a limit on connections; `key` is another one than the stage's own."""
        limits, pool = aiohttp.ClientTimeout(total=timeout_s), aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(self.url, connector=pool, timeout=limits, headers=_bearer(key or self.key))

    def _last_word(self) -> str:
        lines = self.log.read_text().splitlines()[-1:]
        return str(json.loads(lines[0]).get("message", "")) if lines and lines[0].startswith("{") else ""

    def _told(self) -> str:
        return self.log.read_text()[-4000:]


@contextmanager
def staged(stage: Stage) -> Iterator[Stage]:
    """The stage, running; whatever happens, nothing of it is left afterwards."""
    try:
        stage.start()
        yield stage
    finally:
        if stage.process is not None and stage.process.poll() is None:
            stage.kill()
        shutil.rmtree(run_folder(stage.data), ignore_errors=True)  # a service that was killed leaves it


def _bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _belongs(pid: int, mark: bytes, title: str) -> bool:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return mark in environ and title in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
