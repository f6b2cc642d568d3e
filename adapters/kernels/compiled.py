"""Compiling the CPU kernels of `native/`, once per machine's level and torch's version, and loading what was compiled.

`python -m adapters.kernels.compiled [FOLDER]` compiles ahead of time: for every level of this architecture, so that
what one machine has built another one can load. Without a compiler there are no kernels, which a reason tells, and torch
computes everything.
"""

import argparse
import ctypes
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from adapters.kernels.cpu import STORAGE, CpuKernels
from adapters.kernels.trial import wrong_storage

SOURCES = Path(__file__).parent / "native"
COMPILERS = ("g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi")  # fmt: skip
SECONDS = 300  # that a compiler may take


@dataclass(frozen=True)
class Level:
    """What instructions a library may use: the compiler's flags, and the CPU's flags (of Linux) that they need."""

    name: str
    flags: tuple[str, ...]
    needs: frozenset[str]


_AVX2 = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
# By architecture, the best first. Elsewhere a library serves the machine that compiled it.
LEVELS: Mapping[str, tuple[Level, ...]] = {
    "x86_64": (
        Level(
            "avx512-bf16", ("-march=x86-64-v4", "-mavx512bf16", "-mprefer-vector-width=512"), _AVX512 | {"avx512_bf16"}
        ),
        Level("avx512", ("-march=x86-64-v4", "-mprefer-vector-width=512"), _AVX512),
        Level("avx2", ("-march=x86-64-v3",), _AVX2),
    )
}
NATIVE = Level("native", ("-march=native",), frozenset())


@dataclass(frozen=True, eq=False)
class Loaded:
    """The kernels of this machine, or none and the reason; `path` is the library's, if there is one."""

    kernels: CpuKernels | None
    reason: str
    path: Path | None = None


class Unavailable(Exception):
    """There is no compiled library; the message says why, and what would help."""


def folders() -> tuple[Path, ...]:
    """Where libraries may lie: beside the sources, or in the user's cache."""
    try:
        return SOURCES / "build", Path.home() / ".cache" / "chorus"
    except RuntimeError:  # nobody's home is known
        return (SOURCES / "build",)


def load(places: Sequence[Path] | None = None, compilers: Sequence[str] = COMPILERS) -> Loaded:
    """The kernels of this machine's best level: compiled if they were not yet, loaded, and tried against torch.

    A level that can not be compiled leaves its place to the next one, and its reason in `reason`: an older compiler
    knows fewer instructions than the processor.
    They are looked for in `places`, and kept in the first that takes them; `folders()` if left out.
    """
    levels = levels_of(cpu_flags())
    if not levels:
        known = ", ".join(level.name for level in LEVELS[platform.machine()])
        return Loaded(None, f"the CPU runs none of the levels {known}")
    refused: dict[str, None] = {}
    for level in levels:
        loaded = load_level(level, folders() if places is None else places, compilers)
        if loaded.path is not None:
            return replace(loaded, reason="; ".join(filter(None, (*refused, loaded.reason))))
        refused[loaded.reason] = None
    return Loaded(None, "; ".join(refused))


def load_level(level: Level, places: Sequence[Path], compilers: Sequence[str] = COMPILERS) -> Loaded:
    """The kernels of one level, which the CPU must be able to run."""
    try:
        path = library_path(level, places, compilers)
        library = ctypes.CDLL(str(path))
    except (Unavailable, OSError) as error:
        return Loaded(None, str(error))
    wrong = {dtype: why for dtype in STORAGE if (why := wrong_storage(CpuKernels(library), dtype)) is not None}
    said = "; ".join(f"{dtype}: {why}" for dtype, why in wrong.items())
    if torch.float32 in wrong:
        return Loaded(None, f"{path} is not used: {said}", path)
    return Loaded(CpuKernels(library, frozenset(STORAGE) - wrong.keys()), said, path)


def levels_of(flags: frozenset[str]) -> tuple[Level, ...]:
    """The levels that a CPU with these flags runs, the best first."""
    levels = LEVELS.get(platform.machine(), (NATIVE,))
    return tuple(level for level in levels if level.needs <= flags)


def cpu_flags() -> frozenset[str]:
    """The flags of the first CPU; none where Linux does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def library_path(level: Level, places: Sequence[Path], compilers: Sequence[str] = COMPILERS) -> Path:
    """The library of a level in the first folder that holds it, or compiled into the first that takes it."""
    name = f"kernels-{level.name}-{_digest(level)}.so"
    for folder in places:
        if (folder / name).is_file():
            return folder / name
    refused = []
    for folder in places:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return _compile(level, folder / name, compilers)
        except OSError as error:
            refused.append(f"{folder}: {error.strerror or error}")
    raise Unavailable(f"no folder takes the compiled kernels: {'; '.join(refused)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile every level that this architecture has, then say what this machine got; 1 if it got none."""
    args = argparse.ArgumentParser(prog="python -m adapters.kernels.compiled", description=__doc__)
    args.add_argument("folder", nargs="?", type=Path, help="where to keep them, if not beside the sources")
    args.add_argument("--here", action="store_true", help="only what this machine's own processor runs best")
    given = args.parse_args(arguments)
    places = folders() if given.folder is None else (given.folder,)
    loaded = load(places)
    if loaded.kernels is not None:
        for level in () if given.here else LEVELS.get(platform.machine(), (NATIVE,)):
            print(library_path(level, places))  # noqa: T201 - the command's answer
    print(loaded.reason or f"loaded {loaded.path}", file=sys.stderr)  # noqa: T201
    return 0 if loaded.kernels is not None else 1


def _digest(level: Level) -> str:
    """What a library depends on beside its level's name, in 16 hexadecimal digits."""
    said = [*FLAGS, *level.flags, torch.__version__, platform.machine()]
    if level is NATIVE:
        said += [platform.processor(), *sorted(cpu_flags())]
    hashed = hashlib.sha256(" ".join(said).encode())
    for source in sorted(SOURCES.glob("*.*")):
        hashed.update(source.name.encode() + b"\0" + source.read_bytes())
    return hashed.hexdigest()[:16]


def _compiler(compilers: Sequence[str]) -> str:
    found = next((path for name in compilers if (path := shutil.which(name))), None)
    if found is None:
        raise Unavailable(f"no C++ compiler was found: install {' or '.join(compilers)}")
    return found


def _compile(level: Level, path: Path, compilers: Sequence[str]) -> Path:
    """Compile a level's library; another process that does so at once does no harm. Raises `Unavailable`, `OSError`."""
    compiler = _compiler(compilers)
    sources = [str(source) for source in sorted(SOURCES.glob("*.cpp"))]
    libraries = Path(torch.__file__).parent / "lib"
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, *FLAGS, *level.flags, *sources, "-o", str(made), f"-L{libraries}", "-ltorch_cpu"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{compiler} took more than {SECONDS} s") from None
        if done.returncode:
            raise Unavailable(f"{compiler} failed: {done.stderr.strip()[-2000:]}")
        made.replace(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
