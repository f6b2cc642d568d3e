"""A private PostgreSQL server on a Unix socket in a folder, from the machine's own binaries."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loadtests.proofs.stage import StageFailed

_ACCOUNTS = ("postgres", "nobody")  # the server refuses to run as root
_WAIT_S = 60


class Postgres:
    """One server; `start`, `stop` and `stalled` as often as wanted, `remove` in the end."""

    def __init__(self, folder: Path) -> None:
        """Make a server in a new folder, whose path must be short; raises `StageFailed` without PostgreSQL."""
        self._binaries = _binaries()
        self._folder = folder
        self._data = folder / "data"
        self._account = next((name for name in _ACCOUNTS if _exists(name)), None) if os.geteuid() == 0 else None
        folder.mkdir()
        if self._account is not None:
            shutil.chown(folder, self._account)
        self._run("initdb", "-D", str(self._data), "-U", "chorus", "--auth=trust", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder}"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop as a crash does: connections are cut, and nothing is written any more."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Every process of the server stops where it is: connections stay open, and nothing is answered."""
        server = int((self._data / "postmaster.pid").read_text().split()[0])
        pids = [server, *map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())]
        try:
            _signal(pids, signal.SIGSTOP)
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def create(self, name: str) -> str:
        """An empty database; its URL."""
        self._run("psql", "-h", str(self._folder), "-U", "chorus", "-d", "postgres", "-c", f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://chorus@/{name}?host={self._folder}"

    def remove(self) -> None:
        """Stop it if it runs, and remove everything."""
        with suppress(StageFailed):
            self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(  # noqa: S603 - ours
            command, user=self._account, cwd=self._folder, stdout=subprocess.DEVNULL, timeout=_WAIT_S, check=False
        )
        if done.returncode:
            raise StageFailed(f"{program} ended with {done.returncode}; see {self._folder / 'log'}")


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _binaries() -> Path:
    """Where `initdb` and its like are: on the path, or where PostgreSQL's own `pg_config` says."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    if config := shutil.which("pg_config"):
        told = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)  # noqa: S603 - a tool
        if (folder := Path(told.stdout.strip())).joinpath("initdb").is_file():
            return folder
    raise StageFailed("this proof needs PostgreSQL's binaries (initdb, pg_ctl)")
