"""A virtual environment per library, made on first use from pinned requirements, and what its processes are told."""

import subprocess
import sys
import venv
import zlib
from collections.abc import Mapping
from pathlib import Path

from loadtests.peers.contenders import CHORUS
from loadtests.peers.process import PeerFailed

REQUIREMENTS = Path(__file__).parent / "requirements"
PACKAGE = Path(__file__).resolve().parent.parent
INSTALL_S = 1800.0
KEPT = str(1 << 30)


def interpreter(library: str, cache: Path) -> Path:
    """The Python of a library's environment, installing it where it is not there as its requirements say.

    Chorus runs in this very environment. Raises `PeerFailed` with the installer's last words, or where the folder holds
    something else.
    """
    if library == CHORUS:
        return Path(sys.executable)
    wanted = REQUIREMENTS / f"{library}.txt"
    folder, python = cache / library, cache / library / "bin" / "python"
    stamp, now = folder / "stamp", f"{sys.version} {zlib.crc32(wanted.read_bytes())}"
    if stamp.is_file() and stamp.read_text() == now:
        return python
    if folder.is_dir() and any(folder.iterdir()) and not stamp.is_file():
        raise PeerFailed(library, f"{folder} holds what was not made here: remove it, or name another folder")
    venv.create(folder, clear=True, with_pip=True)
    stamp.touch()  # from here on it may be made anew
    command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise PeerFailed(library, f"{wanted.name} was not installed within {INSTALL_S:g} s") from error
    if done.returncode:
        raise PeerFailed(library, f"{wanted.name} could not be installed: {done.stderr.strip()[-500:]}")
    stamp.write_text(now)
    return python


def surroundings(given: Mapping[str, str], library: str, links: Path, threads: int) -> dict[str, str]:
    """The environment of a library's process: the same for all, but for where Python looks for this repository.

    The others see `loadtests` alone, through a link in the folder `links`: AdapterHub's package is called `adapters`,
    as ours is, and the nearer one would win.
    """
    told = {name: value for name, value in given.items() if not name.startswith(("PYTHON", "MALLOC_", "OMP_", "MKL_"))}
    return {
        **told,
        "PYTHONPATH": str(PACKAGE.parent if library == CHORUS else linked(links)),
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Without these glibc gives every large buffer back and faults it in again, which costs padded models a fifth.
        "MALLOC_TRIM_THRESHOLD_": KEPT,
        "MALLOC_MMAP_THRESHOLD_": KEPT,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def linked(links: Path) -> Path:
    """The folder `links` with a link to `loadtests` in it, and nothing else of this repository."""
    links.mkdir(parents=True, exist_ok=True)
    link = links / PACKAGE.name
    if not link.is_symlink():
        link.symlink_to(PACKAGE)
    return links
