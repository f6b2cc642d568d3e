"""What lies in the watched folder: places that may be packages, what each would be called, and when one has changed."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import InvalidName
from adapters.refs import parse_name

MAX_FILES = 1000  # of one place
MAX_DEPTH = 6
_UNFINISHED = (".part", ".tmp")
_NATIVE = ".safetensors"
_EMBEDDINGS = ("embedding.safetensors", "embedding.pt")


class Unfit(Exception):
    """A place that can not be published, whatever is in it; the message says why."""


@dataclass(frozen=True)
class Place:
    """One package: its path, the same below the watched folder, and whose and what it would be."""

    path: Path
    where: str
    tenant: str
    name: str


@dataclass(frozen=True)
class Stray:
    """Something that is no package and could be taken for one."""

    where: str
    reason: str


def look(root: Path) -> Iterator[Place | Stray]:
    """Everything in the watched folder, sorted; raises `OSError` where it can not be read."""
    for folder in _entries(root):
        where = folder.name
        if not _is_folder(folder):
            yield Stray(where, "lies outside of any tenant's folder: put it under DIR/tenant/")
        elif (reason := _bad_name(where)) is not None or "/" in where:
            yield Stray(where, f"is no tenant's name: {reason}")
        else:
            for path in _entries(folder):
                yield from _below(path, where, "")


def signature(path: Path) -> str:
    """What changes when a file of a place comes, goes, grows or is written; raises `Unfit` for links and the like.

    Raises `OSError` where something vanishes meanwhile.
    """
    hashed = hashlib.sha256()
    for count, (file, entry) in enumerate(_files(path, 0), 1):
        if count > MAX_FILES:
            raise Unfit(f"holds more than {MAX_FILES} files")
        hashed.update(f"{file.relative_to(path)}\0{entry.st_size}\0{entry.st_mtime_ns}\0".encode())
    return hashed.hexdigest()


def size(path: Path) -> int:
    """Bytes of all files of a place."""
    return sum(entry.st_size for _, entry in _files(path, 0))


def _below(path: Path, tenant: str, first: str) -> Iterator[Place | Stray]:
    """A package of a tenant, or, on the first level, those in a folder that is none."""
    called = path.stem if path.suffix == _NATIVE and not _is_folder(path) else path.name
    name, where = f"{first}{called}", f"{tenant}/{first}{path.name}"
    if _is_package(path):
        reason = _bad_name(name)
        yield Place(path, where, tenant, name) if reason is None else Stray(where, reason)
    elif not _is_folder(path):
        yield Stray(where, "is no package: put a folder here, or a .safetensors file")
    elif first:
        yield Stray(where, "is no package: it holds no adapter_config.json, nor anything else that `push` reads")
    else:
        for inner in _entries(path):
            yield from _below(inner, tenant, f"{path.name}/")


def _is_package(path: Path) -> bool:
    if not _is_folder(path):
        return path.suffix == _NATIVE and not path.is_symlink() and path.is_file()
    return any(item.suffix == ".json" or item.name in _EMBEDDINGS for item in path.iterdir())


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, without what is hidden or still being written."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.suffix not in _UNFINISHED)


def _files(path: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
    entry = path.lstat()
    if stat.S_ISREG(entry.st_mode):
        yield path, entry
    elif not stat.S_ISDIR(entry.st_mode):
        raise Unfit(f"{path.name} is a link or no plain file: give real files (`cp -rL` makes them of links)")
    elif depth == MAX_DEPTH:
        raise Unfit(f"folders lie more than {MAX_DEPTH} deep")
    else:
        for inner in sorted(path.iterdir()):
            yield from _files(inner, depth + 1)


def _bad_name(name: str) -> str | None:
    try:
        parse_name(name)
    except InvalidName as error:
        return str(error)
    return None
