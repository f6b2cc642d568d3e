"""Debian's promtool: from the PATH, else unpacked from its package, which needs no root and is done once."""

import fcntl
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "prometheus"
KEPT = Path(__file__).resolve().parents[2] / ".pytest_cache" / "promtool"


@dataclass(frozen=True)
class Promtool:
    """The program."""

    path: Path

    def run(self, *words: str | Path, cwd: Path | None = None) -> tuple[int, str]:
        """The exit status, and all that was told."""
        done = subprocess.run([self.path, *words], cwd=cwd, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def find(kept: Path = KEPT) -> Promtool | None:
    """The one that is installed, else the one kept in `kept`, which is fetched where it is not; None if it can not be."""
    installed = shutil.which("promtool")
    if installed is not None:
        return Promtool(Path(installed))
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of one test run
        tool = kept / "promtool"
        if not tool.is_file() and not _unpack(tool):
            return None
    return Promtool(tool)


def _unpack(tool: Path) -> bool:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    with tempfile.TemporaryDirectory(dir=tool.parent) as folder:
        fetched = subprocess.run(["apt-get", "-qq", "download", PACKAGE], cwd=folder, check=False, capture_output=True)
        packages = list(Path(folder).glob("*.deb"))
        if fetched.returncode != 0 or len(packages) != 1:
            return False
        if subprocess.run(["dpkg-deb", "-x", packages[0], folder], check=False, capture_output=True).returncode != 0:
            return False
        (Path(folder) / "usr" / "bin" / "promtool").replace(tool)
    return True
