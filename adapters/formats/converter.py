"""Pickled checkpoints -> the same folders in safetensors, in a subprocess that may read tensors and nothing else.

This runs on the operator's machine, never in the service. One subprocess (`convert_worker`) with a memory and a time
limit converts every file of a folder, or of a setup's or a shelf's subfolders; this process touches no pickle, and
reads nothing of what the subprocess made.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from adapters.errors import InvalidPackage, UnsafeFile
from adapters.formats.files import PICKLED

TIMEOUT_S = 300.0
MEMORY_BYTES = 8 << 30
MAX_FOLDERS = 1000
MAX_DEPTH = 4
_TOKENIZER = "tokenizer"
_REMEDY = "links and pipes are not copied; give a folder of real files (`cp -rL` makes one of links)"


def needs_conversion(folder: Path) -> bool:
    """Whether a folder, or one below it, holds weights only as pickles."""
    return any(_pickled(place) for place in _folders(folder))


def convert(
    folder: Path,
    destination: Path | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
) -> Path:
    """The same folders with safetensors in place of pickles, in `destination` (default: a new temporary folder).

    Copied are weights, JSON files and tokenizers. Raises `UnsafeFile` where a pickle holds more than tensors or goes
    over a limit and for a link among the files, `InvalidPackage` where there is nothing to convert.
    """
    places = list(_folders(folder))
    if not any(_holds_weights(place) for place in places):
        raise InvalidPackage(f"{folder.name} holds no weights: none of {', '.join(PICKLED.values())}")
    made = destination or Path(tempfile.mkdtemp(prefix="chorus-convert-"))
    jobs: dict[Path, Path] = {}
    try:
        for place in places:
            target = made / place.relative_to(folder)
            _copy(place, target)
            jobs |= {source: target / name for source, name in _pickled(place).items()}
        if jobs:
            _run(jobs, timeout_s, memory_bytes)
    except UnsafeFile:
        if destination is None:
            shutil.rmtree(made)
        raise
    return made


def _folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The folder, and those below it where it holds no weights itself; raises `InvalidPackage` for too many."""
    yield folder
    if _holds_weights(folder) or depth == MAX_DEPTH:
        return
    count = 0
    for place in sorted(folder.iterdir()):
        if place.is_dir() and not place.is_symlink() and place.name != _TOKENIZER:
            for found in _folders(place, depth + 1):
                count += 1
                if count > MAX_FOLDERS:
                    raise InvalidPackage(f"{folder.name} holds more than {MAX_FOLDERS} folders: name one adapter's")
                yield found


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for names in PICKLED.items() for name in names)


def _pickled(folder: Path) -> dict[Path, str]:
    """Pickle -> name of the safetensors file that is not there yet."""
    return {
        folder / pickled: name
        for name, pickled in PICKLED.items()
        if (folder / pickled).is_file() and not (folder / name).is_file()
    }


def _copy(folder: Path, target: Path) -> None:
    """Copy what is no pickle; raises `UnsafeFile` for a link, or whatever else is no file."""
    target.mkdir(parents=True, exist_ok=True)
    sources = sorted(folder.glob("*.json")) + [folder / name for name in PICKLED if _is_there(folder / name)]
    for source in sources:
        _copy_file(source, target / source.name)
    if _is_there(folder / _TOKENIZER):
        _copy_tokenizer(folder / _TOKENIZER, target / _TOKENIZER)


def _copy_tokenizer(folder: Path, target: Path, depth: int = 0) -> None:
    """Copy a folder of plain files and such folders."""
    if folder.is_symlink() or not folder.is_dir() or depth > MAX_DEPTH:
        raise UnsafeFile(f"{folder.name} is no plain folder: {_REMEDY}")
    target.mkdir(exist_ok=True)
    for source in sorted(folder.iterdir()):
        if source.is_dir():
            _copy_tokenizer(source, target / source.name, depth + 1)
        else:
            _copy_file(source, target / source.name)


def _copy_file(source: Path, target: Path) -> None:
    """Copy one regular file. It is opened without following a link or waiting for a pipe, and judged when open."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnsafeFile(f"{source.name} is no plain file ({error.strerror}): {_REMEDY}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnsafeFile(f"{source.name} is no plain file: {_REMEDY}")
    with os.fdopen(handle, "rb") as opened, target.open("wb") as made:
        shutil.copyfileobj(opened, made)


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _run(jobs: Mapping[Path, Path], timeout_s: float, memory_bytes: int) -> None:
    command = [sys.executable, "-m", "adapters.formats.convert_worker", str(memory_bytes)]
    asked = json.dumps([[str(source.resolve()), str(target.resolve())] for source, target in jobs.items()])
    root = Path(__file__).parents[2]
    names = ", ".join(sorted({source.name for source in jobs}))
    try:
        done = subprocess.run(  # noqa: S603 - our own module, paths as data
            command, cwd=root, input=asked.encode(), capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnsafeFile(f"{names} could not be converted within {timeout_s:g} s") from error
    try:
        answer = json.loads(done.stdout)
        reason, name = answer["error"], answer.get("file", names)
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = f"the conversion died (exit status {done.returncode}); it may need more memory than is allowed"
        name = names
    if reason is not None or done.returncode != 0:
        raise UnsafeFile(f"{name} was not converted: {reason}")
