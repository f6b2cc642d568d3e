"""A private PostgreSQL server on a Unix socket in a temporary folder, where its binaries are installed."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import text, update

from serving.registry.database import Database
from serving.registry.tables import META, METADATA

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
_FOUND = str(_BINARIES[-1]) if _BINARIES else shutil.which("initdb")
# The server refuses to run as root; the packages of PostgreSQL bring a user for it.
_USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _has_user() -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(_USER))
    return False


AVAILABLE = _FOUND is not None and importlib.util.find_spec("psycopg") is not None and _has_user()


class Cluster:
    """One server; `create()` makes an empty database and returns its URL."""

    def __init__(self) -> None:
        assert _FOUND is not None
        self._binaries = Path(_FOUND).parent
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._databases = 0
        self._shared = ""
        if os.geteuid() == 0:
            shutil.chown(self._folder, _USER)
        self._run("initdb", "-D", str(self._folder / "data"), "-U", "chorus", "--auth=trust", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def create(self) -> str:
        self._databases += 1
        name = f"registry{self._databases}"
        self._run("psql", "-h", str(self._folder), "-U", "chorus", "-d", "postgres", "-c", f"CREATE DATABASE {name}")
        return f"postgresql://chorus@/{name}?host={self._folder}"

    def emptied(self) -> str:
        """One database for many tests, empty at the start of each: much faster than one each."""
        self._shared = self._shared or self.create()
        database = Database.open(self._shared)
        with database.write() as write:
            tables = ", ".join(table.name for table in METADATA.sorted_tables if table is not META)
            write.connection.execute(text(f"TRUNCATE {tables}"))
            write.connection.execute(update(META).values(revision=0, backbone_id=None, backbone_digest=None))
        database.close()
        return self._shared

    def _run(self, program: str, *arguments: str) -> None:
        user = _USER if os.geteuid() == 0 else None
        command = [str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, user=user, cwd=self._folder, stdout=subprocess.DEVNULL, timeout=60)
