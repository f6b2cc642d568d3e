"""The native package: one safetensors file whose header is checked in full before any tensor is parsed.

`__metadata__` holds `format` ("chorus/1") and `manifest` (canonical JSON). Tensors are named `layer/site/parameter`
and written in the order of their names, so that equal packages are equal bytes and have one digest. The header is
parsed here as well as by safetensors, which accepts duplicate keys and any number of tensors.
"""

import hashlib
import io
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NoReturn

import safetensors
import safetensors.torch
import torch

from adapters import embeddings
from adapters import manifest as manifests
from adapters.errors import InvalidPackage, UnsafeFile
from adapters.files import digest_of
from adapters.manifest import FORMAT, Manifest
from adapters.weights import Package

MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 4
ITEM_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}
CODES: Mapping[torch.dtype, str] = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.uint8: "U8",
}
MATRIX, TOKENIZER = embeddings.MATRIX, embeddings.TOKENIZER
_NAME = re.compile(
    r"(?:model|head|embedding|0|[1-9][0-9]{0,3})/[a-z0-9_]{1,32}/[A-Za-z0-9_]{1,64}(?:\.[A-Za-z0-9_]{1,64}){0,7}"
)
_ZIP = b"PK\x03\x04"
_PICKLES = (_ZIP, b"\x80")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a header: dtype code, shape, and its bytes [start, end) in the data section."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A header within every limit: the manifest, and what each tensor is."""

    manifest: Manifest
    tensors: Mapping[str, TensorInfo]
    data_bytes: int


def preparse(source: Path | bytes) -> Header:
    """Check a package's header against every limit and its size; reads no tensor. Raises `InvalidPackage`."""
    if isinstance(source, bytes):
        return _header(io.BytesIO(source), len(source))
    with source.open("rb") as file:
        return _header(file, source.stat().st_size)


def read(source: Path | bytes) -> Package:
    """Read a package whole; raises `InvalidPackage`, or `UnsafeFile` for a pickle."""
    if isinstance(source, Path):
        preparse(source)  # a hostile header is refused before the file is in memory
        source = source.read_bytes()
    header = preparse(source)  # of these very bytes: a file may change between two reads
    try:
        tensors = safetensors.torch.load(source)
    except (safetensors.SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidPackage(f"safetensors refuses the file: {error}") from error
    return Package(header.manifest, MappingProxyType({name: tensors[name] for name in sorted(header.tensors)}))


def write(package: Package) -> bytes:
    """The bytes of a package: equal packages give equal bytes. Raises `InvalidPackage` where it breaks a limit."""
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "manifest": manifests.to_json(package.manifest)},
    }
    pieces: list[bytes] = []
    end = 0
    for name in sorted(package.tensors):
        tensor = package.tensors[name].detach().cpu().contiguous()
        if tensor.dtype not in CODES:
            _refuse(f"tensor {name!r} has the dtype {tensor.dtype}; a package holds {', '.join(map(str, CODES))}")
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        start, end = end, end + len(raw)
        header[name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        pieces.append(raw)
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join([struct.pack("<Q", len(text)), text, *pieces])
    preparse(data)
    return data


def digest(source: Path | bytes) -> str:
    """`sha256:<64 hex>` of a package's bytes."""
    if isinstance(source, bytes):
        return f"sha256:{hashlib.sha256(source).hexdigest()}"
    return digest_of(source)


def refuse_pickle(start: bytes, what: str) -> None:
    """Raise `UnsafeFile` where a file's first 9 bytes are those of a pickle or of torch's zip archive of one."""
    if (
        start.startswith(_PICKLES) and start[8:9] != b"{"
    ):  # a safetensors header of 128, 384, ... bytes starts with 0x80
        kind = "zip archive, in which torch keeps pickles" if start.startswith(_ZIP) else "pickle"
        raise UnsafeFile(f"{what} is a {kind}, which could run code; convert it with `chorus convert`")


def _header(file: BinaryIO, size: int) -> Header:
    start = file.read(9)
    refuse_pickle(start, "the file")
    if len(start) < 9:
        _refuse("the file is shorter than a safetensors header")
    if start[8:] != b"{":
        _refuse("the file is no safetensors file: its header is not a JSON object")
    (length,) = struct.unpack("<Q", start[:8])
    if length > MAX_HEADER_BYTES:
        _refuse(f"the header says it has {length} bytes; at most {MAX_HEADER_BYTES} are allowed")
    text = start[8:] + file.read(max(length - 1, 0))
    if len(text) < length:
        _refuse("the file ends inside of its header")
    raw = _json(text[:length])
    metadata = raw.pop("__metadata__", None)
    if len(raw) > MAX_TENSORS:
        _refuse(f"the header names {len(raw)} tensors; at most {MAX_TENSORS} are allowed")
    tensors = {name: _tensor(name, value) for name, value in raw.items()}
    data_bytes = size - 8 - length
    _tile(tensors, data_bytes)
    return Header(_manifest(metadata), MappingProxyType(tensors), data_bytes)


def _json(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                _refuse(f"the header names {name[:200]!r} twice")
            found[name] = value
        return found

    if not text.startswith(b"{"):
        _refuse("the file is no safetensors file: its header is not a JSON object")
    try:
        value: dict[str, Any] = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InvalidPackage(f"the header is not JSON: {error}") from error
    return value


def _tensor(name: str, value: object) -> TensorInfo:
    if not _NAME.fullmatch(name):
        _refuse(f"{name[:200]!r} is no tensor name: use layer/site/parameter")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        _refuse(f"tensor {name!r}: an entry has exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in ITEM_BYTES or (dtype == "U8") != (name == TOKENIZER):
        _refuse(f"tensor {name!r}: dtype {dtype!r} is not allowed; use F32, F16 or BF16 (U8 for {TOKENIZER} alone)")
    if not _counts(shape, lowest=1) or not 1 <= len(shape) <= MAX_DIMENSIONS:
        _refuse(f"tensor {name!r}: shape must be 1 to {MAX_DIMENSIONS} positive integers")
    if not _counts(offsets, lowest=0) or len(offsets) != 2:
        _refuse(f"tensor {name!r}: data_offsets must be two integers")
    start, end = offsets
    if end - start != prod(shape) * ITEM_BYTES[dtype]:
        _refuse(f"tensor {name!r}: {dtype} {shape} does not take {end - start} bytes")
    return TensorInfo(dtype, tuple(shape), start, end)


def _tile(tensors: Mapping[str, TensorInfo], data_bytes: int) -> None:
    """The tensors cover the data section exactly: no hole, no overlap, nothing left at the end."""
    at = 0
    for name, info in sorted(tensors.items(), key=lambda item: item[1].start):
        if info.start != at:
            _refuse(f"tensor {name!r} starts at byte {info.start}, but the one before it ends at {at}")
        at = info.end
    if at != data_bytes:
        _refuse(f"the tensors take {at} bytes, but the file holds {data_bytes}: it is torn, or has something appended")


def _manifest(metadata: object) -> Manifest:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        _refuse(f"the file is no native package: __metadata__.format is not {FORMAT!r}")
    unknown = sorted(set(metadata) - {"format", "manifest"})
    if unknown or not isinstance(metadata.get("manifest"), str):
        _refuse("__metadata__ must hold exactly `format` and `manifest`, both strings")
    return manifests.from_json(metadata["manifest"])


def _counts(value: object, lowest: int) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and lowest <= item < 1 << 48 for item in value
    )


def _refuse(message: str) -> NoReturn:
    raise InvalidPackage(message)
