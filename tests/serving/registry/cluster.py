"""A private PostgreSQL server on a Unix socket in a temporary folder, from the binaries of this machine.

It is a child of the tests' process, and ends with it, however that ends.
"""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import text, update

from serving.registry.database import Database
from serving.registry.tables import META, METADATA, ORIGIN


def _binaries() -> Path | None:
    """Where `initdb` and its like are: on the path, or where PostgreSQL's own `pg_config` says."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    config = shutil.which("pg_config")
    if config is None:
        return None
    told = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
    folder = Path(told.stdout.strip())
    return folder if (folder / "initdb").is_file() else None


def _user() -> str | None:
    """Who runs the server, which refuses to run as root: the user of its packages, or nobody in particular."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


_BINARIES, _USER = _binaries(), _user()
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_START_S = 60.0


class Cluster:
    """One server; `create()` makes an empty database and returns its URL."""

    def __init__(self) -> None:
        assert _BINARIES is not None, "PostgreSQL is not installed here: apt-get install postgresql"
        assert _USER is not None, "PostgreSQL does not run as root: make a user named postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self._folder / "data"
        self._user = _USER if os.geteuid() == 0 else None
        self._databases = 0
        self._shared: tuple[str, Database] | None = None
        if os.geteuid() == 0:
            shutil.chown(self._folder, _USER)
        self._run("initdb", "-D", str(self._data), "-U", "chorus", "--auth=trust", "--no-sync")
        self.start()

    def start(self) -> None:
        options = {"listen_addresses": "", "unix_socket_directories": self._folder, "fsync": "off"}
        command = [_BINARIES / "postgres", "-D", self._data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command,
                user=self._user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one call into libc, which takes no lock
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            assert self._server.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "the server does not get ready"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.send_signal(signal.SIGQUIT)  # at once, as in a crash
        self._server.wait(_START_S)

    @contextlib.contextmanager
    def stalled(self):
        """Every process of the server stops where it is: connections stay open, and nothing is answered."""
        server = self._server.pid
        processes = [server, *map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def remove(self) -> None:
        if self._shared is not None:
            self._shared[1].close()
        self.stop()
        shutil.rmtree(self._folder)

    def create(self) -> str:
        self._databases += 1
        name = f"registry{self._databases}"
        self._run("psql", "-h", str(self._folder), "-U", "chorus", "-d", "postgres", "-c", f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://chorus@/{name}?host={self._folder}"

    def emptied(self) -> str:
        """One database for many tests, empty at the start of each: much faster than one each."""
        if self._shared is None:
            url = self.create()
            self._shared = url, Database.open(url)
        url, database = self._shared
        with database.write() as write:
            tables = ", ".join(table.name for table in METADATA.sorted_tables if table not in (META, ORIGIN))
            write.connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
            write.connection.execute(update(META).values(revision=0, backbone_id=None, backbone_digest=None))
        return url

    def _answers(self) -> bool:
        asked = [_BINARIES / "pg_isready", "-q", "-h", self._folder, "-U", "chorus"]
        return subprocess.run(asked, check=False, timeout=60).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(_BINARIES / program), *arguments]
        subprocess.run(command, check=True, user=self._user, cwd=self._folder, stdout=subprocess.DEVNULL, timeout=60)


def _end_with_parent() -> None:
    """Have the kernel end this process at once when its parent is gone: also after `kill -9`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
