"""A real service in processes of its own, started as an operator starts it, and what the kernel says of it."""

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import torch
from transformers import BertConfig, BertModel

from serving.premises import MARK, free_ports, run_folder
from tests.serving.samples import tokenizer_json

ROOT = Path(__file__).resolve().parents[2]
START_S = 300.0  # a loaded machine may take long; a test never waits for less than the event itself
TCP_LISTEN = "0A"
PR_SET_PDEATHSIG = 1
SHARED_MEMORY = Path("/dev/shm")


def make_backbone(folder: Path, seed: int = 7) -> Path:
    """A BERT of two layers with seeded weights, and a tokenizer of a few words."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=48,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    return folder


def free_port() -> int:
    return free_ports(1)[0]


@dataclass
class Service:
    """`python -m serving.cli serve` on a data folder."""

    backbone: Path
    data: Path
    engines: int
    gateways: int
    port: int
    options: tuple[str, ...] = ()  # further words of the command line
    root: Path = ROOT  # whose code runs
    host: str = "127.0.0.1"
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "serving.cli", "serve", "--backbone", self.backbone, "--data", self.data]
        command += [
            "--host",
            self.host,
            "--port",
            self.port,
            "--engines",
            self.engines,
            "--gateways",
            self.gateways,
            "--threads",
            1,
            *self.options,
        ]
        self.data.mkdir(exist_ok=True)
        with (self.data / "service.log").open("a") as log:
            words, environ = [str(word) for word in command], {**os.environ, "PYTHONPATH": str(self.root)}
            self.process = subprocess.Popen(
                words,
                cwd=self.root,
                env=environ,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=_stopped_with_us,  # noqa: PLW1509 - one call of the kernel, no lock
            )
        deadline = time.monotonic() + START_S
        while not self._ready():
            told = (self.data / "service.log").read_text()
            assert self.process.poll() is None, f"the service ended with {self.process.returncode}: {told}"
            assert time.monotonic() < deadline, f"the service did not start: {told}"
            time.sleep(0.1)

    def stop(self) -> int:
        """SIGTERM as `timeout` sends it, to the process and then to its whole group; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        os.killpg(self.process.pid, signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def client(self, **options) -> httpx2.Client:
        return httpx2.Client(**{"base_url": self.url, "timeout": 60.0, **options})

    def pids(self, title: str = "") -> list[int]:
        """Processes that belong to this run, and whose title holds `title`."""
        mark = f"{MARK}={run_folder(self.data)}".encode()
        found = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
        return sorted(pid for pid in found if _belongs(pid, mark, title))

    def places(self) -> set[Path]:
        """Files outside of the data folder that processes of this run have open for writing, or listen on."""
        pids = [*self.pids(), self.process.pid]
        found = {place for pid in pids for place in _written(pid)} | _unix_sockets(pids)
        return {place for place in found if not place.is_relative_to(self.data)}

    def logged(self) -> dict[Path, int]:
        """How long each log is now."""
        files = [self.data / "service.log", *(self.data / "logs").glob("*.log")]
        return {path: path.stat().st_size for path in files}

    def complaints(self, since: dict[Path, int]) -> list[str]:
        """What the logs tell since then of errors, and whatever is no line of ours: a traceback, say."""
        lines = [line for path in self.logged() for line in path.read_bytes()[since.get(path, 0) :].splitlines()]
        return [line.decode() for line in lines if line and not _calm(line)]

    def replicas(self) -> list[str]:
        """Ids of the engines that answer."""
        with self.client() as client:
            told = client.get("/v1/residency").json()["replicas"]
            return [replica["replica"] for replica in told if replica["ready"]]

    def _ready(self) -> bool:
        try:
            ready = httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200
            return ready and len(self.replicas()) == self.engines and "serving" in self._said()
        except httpx2.HTTPError:
            return False

    def _said(self) -> str:
        last = (self.data / "service.log").read_text().splitlines()[-1:]
        return json.loads(last[0]).get("message", "") if last and last[0].startswith("{") else ""


def listeners(pids: list[int]) -> set[tuple[str, int]]:
    """(address, port) of every TCP socket that these processes listen on."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == TCP_LISTEN and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((_address(address), int(port, 16)))
    return found


def maps_torch(pid: int) -> bool:
    """Whether the process has torch in its memory."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


@dataclass(frozen=True)
class Thread:
    """One thread of a process, and how much it gives way."""

    process: int
    name: str
    niceness: int


def threads_of(pid: int) -> list[Thread]:
    """All threads of the process; the kernel knows a niceness for each."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it ended meanwhile
            niceness = os.getpriority(os.PRIO_PROCESS, int(task.name))
            found.append(Thread(pid, (task / "comm").read_text().strip(), niceness))
    return found


def _belongs(pid: int, mark: bytes, title: str) -> bool:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return mark in environ and title in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _calm(line: bytes) -> bool:
    return line.startswith(b"{") and json.loads(line)["level"] in ("info", "warning") and b"traceback" not in line


def _stopped_with_us() -> None:
    """A group of its own outlives a test run that is killed; the service stops cleanly then."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _written(pid: int) -> set[Path]:
    """Regular files that the process maps to write or has open to write."""
    found = set()
    with suppress(OSError):  # it ended meanwhile
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[1][1] == "w" and fields[1][3] == "s" and fields[5].startswith("/"):
                found.add(Path(fields[5]))
    for number, place in _descriptors(pid).items():
        with suppress(OSError):  # closed meanwhile
            flags = Path(f"/proc/{pid}/fdinfo/{number}").read_text().split("flags:")[1].split()[0]
            outside = place.is_absolute() and place.parts[1] not in ("dev", "proc")
            if int(flags, 8) & (os.O_WRONLY | os.O_RDWR) and (outside or place.parent == SHARED_MEMORY):
                found.add(place)
    return found


def _unix_sockets(pids: list[int]) -> set[Path]:
    """Places of the Unix sockets that these processes hold."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {Path(line[7]) for line in lines if len(line) == 8 and line[6] in inodes and line[7].startswith("/")}


def _sockets(pid: int) -> set[str]:
    targets = map(str, _descriptors(pid).values())
    return {target[8:-1] for target in targets if target.startswith("socket:[")}


def _descriptors(pid: int) -> dict[str, Path]:
    """What each open descriptor of the process leads to."""
    found = {}
    with suppress(OSError):  # it ended meanwhile
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found[descriptor.name] = descriptor.readlink()
    return found


def _address(text: str) -> str:
    """The kernel writes addresses as 32-bit words in the machine's byte order."""
    words = struct.pack(f"={len(text) // 8}I", *(int(text[i : i + 8], 16) for i in range(0, len(text), 8)))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)
