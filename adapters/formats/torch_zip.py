"""A torch checkpoint (zip archive) read without torch, as bytes: a table of plain tensors, or nothing at all.

Inside of the archive a pickle describes the tensors. It is never unpickled: the few operations that a table of tensors
takes are followed on a stack of our own, where no name leads to code. Whatever else a file holds is `NotPlain`.
"""

import pickletools
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

MAX_PICKLE_BYTES = 64 << 20
MAX_DIMENSIONS = 64  # torch's own limit
MAX_TENSORS = 100_000
# torch's storage classes: dtype code of safetensors, and bytes of an item.
STORAGES: Mapping[str, tuple[str, int]] = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
_LITTLE = b"little"
_PIECE = 1 << 20
_KEY = re.compile(r"[0-9]{1,9}")


class NotPlain(Exception):
    """The file is not a zip archive of plain, contiguous tensors by name; torch's own loader has to judge it."""


@dataclass(frozen=True)
class Plain:
    """A contiguous tensor: dtype code, shape, and its bytes [start, end) of an entry of the archive."""

    dtype: str
    shape: tuple[int, ...]
    entry: str
    start: int
    end: int


@dataclass(frozen=True)
class _Name:
    """A global name of the pickle, of those that tables of tensors use."""

    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    item: int
    key: str
    items: int


class _Empty(dict[str, Any]):
    """An empty `OrderedDict` of hooks."""


_MARK = object()


def describe(archive: zipfile.ZipFile) -> dict[str, Plain]:
    """Name -> tensor; a bare tensor is called `embedding`. Raises `NotPlain`."""
    names = archive.namelist()
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1 or len(set(names)) != len(names):
        raise NotPlain
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in names and _member(archive, f"{root}byteorder", len(_LITTLE)) != _LITTLE:
        raise NotPlain
    program = _member(archive, pickles[0], MAX_PICKLE_BYTES)
    try:
        value = _Machine(lambda storage: _entry(archive, root, storage)).run(program)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise NotPlain from error
    table = {"embedding": value} if isinstance(value, Plain) else value
    if type(table) is not dict or "__metadata__" in table or len(table) > MAX_TENSORS:
        raise NotPlain
    if not all(isinstance(tensor, Plain) for tensor in table.values()):
        raise NotPlain
    return table


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive of a checkpoint; raises `NotPlain` for a file of another kind, and for a broken or locked one."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # NotImplementedError is one of these
        raise NotPlain from error


def refuse_packed(path: Path) -> None:
    """Raise `ValueError` for an archive whose entries say that they unpack to more than the file; torch packs none."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            held = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise ValueError(f"its archive can not be read: {error}") from error
    if held > path.stat().st_size:
        raise ValueError(f"its archive unpacks to {held} bytes, but torch packs nothing")


def copy(archive: zipfile.ZipFile, tensor: Plain, target: BinaryIO) -> None:
    """Write a tensor's bytes; raises `NotPlain` where the archive has fewer."""
    target.writelines(_pieces(archive, tensor))


def same(archive: zipfile.ZipFile, a: Plain, b: Plain) -> bool:
    """Whether two tensors are equal, byte for byte."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return all(x == y for x, y in zip(_pieces(archive, a), _pieces(archive, b), strict=True))


def _pieces(archive: zipfile.ZipFile, tensor: Plain) -> Iterator[bytes]:
    left = tensor.end - tensor.start
    with archive.open(tensor.entry) as source:
        source.seek(tensor.start)
        while left:
            data = source.read(min(left, _PIECE))
            if not data:
                raise NotPlain
            yield data
            left -= len(data)


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """An entry of at most so many bytes, as they are: one that would unpack to more is never read."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
        raise NotPlain
    return archive.read(name)


def _entry(archive: zipfile.ZipFile, root: str, storage: _Storage) -> str:
    """The entry of a storage, which must hold all of its items, as they are."""
    name = f"{root}data/{storage.key}"
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.items * storage.item:
        raise NotPlain
    return name


class _Machine:
    """Follows a pickle's operations over tuples, numbers, texts, and tables."""

    def __init__(self, entry_of: Callable[[_Storage], str]) -> None:
        self._entry_of = entry_of
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """What the pickle describes; raises `NotPlain`, or what a malformed one leads to."""
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "STOP":
                (value,) = self._stack
                return value
            step = _STEPS.get(operation.name)
            if step is None:
                raise NotPlain
            step(self, argument)
        raise NotPlain

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def to_mark(self) -> list[Any]:
        """Take everything above the last mark."""
        at = len(self._stack) - 1
        while at >= 0 and self._stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise NotPlain
        found = self._stack[at + 1 :]
        del self._stack[at:]
        return found

    def pop(self, count: int) -> list[Any]:
        """Take the last values."""
        if len(self._stack) < count:
            raise NotPlain
        found = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return found

    def put(self, number: int) -> None:
        """Remember the value on top."""
        self._memo[number] = self._stack[-1]

    def get(self, number: int) -> None:
        """Repeat a value."""
        self._stack.append(self._memo[number])

    def items(self, pairs: list[Any]) -> None:
        """Set items of the table below."""
        table = self._stack[-1]
        if type(table) is not dict or len(pairs) % 2:
            raise NotPlain
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str) or key in table:
                raise NotPlain
            table[key] = value

    def name(self, argument: str) -> None:
        """A global name, of a closed list."""
        module, _, name = argument.partition(" ")
        known = (module == "torch" and name in STORAGES) or (module, name) in _CALLS or argument == _ORDERED
        if not known:
            raise NotPlain
        self._stack.append(_Name(name))

    def storage(self) -> None:
        """A persistent id is ("storage", class, key, device, items)."""
        kind, cls, key, _, items = self._stack.pop()
        if kind != "storage" or not isinstance(cls, _Name) or not _KEY.fullmatch(key) or not _count(items):
            raise NotPlain
        self._stack.append(_Storage(*STORAGES[cls.name], key, items))

    def call(self) -> None:
        """The three things that a table of tensors is made with."""
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, _Name) or type(arguments) is not tuple:
            raise NotPlain
        if called.name == "OrderedDict" and not arguments:
            self._stack.append(_Empty())
        elif called.name == "_rebuild_parameter" and len(arguments) == 3 and isinstance(arguments[0], Plain):
            self._stack.append(arguments[0])
        elif called.name == "_rebuild_tensor_v2" and len(arguments) == 6:
            self._stack.append(self._tensor(*arguments[:4]))
        else:
            raise NotPlain

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> Plain:
        if not isinstance(storage, _Storage) or type(shape) is not tuple or type(stride) is not tuple:
            raise NotPlain
        if len(shape) > MAX_DIMENSIONS or len(shape) != len(stride):
            raise NotPlain
        if not all(map(_count, (offset, *shape, *stride))):
            raise NotPlain
        items, extent = prod(shape), 1
        for size, step in zip(reversed(shape), reversed(stride), strict=True):
            if size != 1 and step != extent and items:
                raise NotPlain
            extent *= size
        if offset + items > storage.items:
            raise NotPlain
        start = offset * storage.item
        return Plain(storage.dtype, shape, self._entry_of(storage), start, start + items * storage.item)


_CALLS = (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"))
_ORDERED = "collections OrderedDict"
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _, __: None,
    "MARK": lambda machine, _: machine.push(_MARK),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BINPUT": lambda machine, number: machine.put(number),
    "LONG_BINPUT": lambda machine, number: machine.put(number),
    "BINGET": lambda machine, number: machine.get(number),
    "LONG_BINGET": lambda machine, number: machine.get(number),
    **{name: lambda machine, value: machine.push(value) for name in ("BINUNICODE", "BININT", "BININT1", "BININT2")},
    "LONG1": lambda machine, value: machine.push(value),
    "GLOBAL": lambda machine, argument: machine.name(argument),
    "BINPERSID": lambda machine, _: machine.storage(),
    "REDUCE": lambda machine, _: machine.call(),
    "SETITEM": lambda machine, _: machine.items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.items(machine.to_mark()),
}


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48
