"""Compositions under a name, as they are stored: members pinned by digest, in a native package without tensors.

No later publish or promote changes what a version of a target means; it moves as a whole, by its own aliases.
`serving.api.assembling` makes them.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.composition import BLOCKS
from adapters.manifest import FORMAT, Manifest, TargetSpec
from adapters.manifest import to_json as manifest_json
from adapters.refs import Reference, parse_reference
from serving.registry.records import DEFAULT_EMBEDDING, Resolved, Space


def members_of(spec: TargetSpec) -> tuple[tuple[str, Space, Reference], ...]:
    """(role, space, reference) of all that a target is made of, in the order written; a role is what it is used as."""
    found: list[tuple[str, Space, Reference]] = [
        (role, "adapter", parse_reference(text)) for role, text in _mentioned(spec.adapters)
    ]
    if spec.head is not None:
        found.append(("head", "adapter", parse_reference(spec.head)))
    if spec.embedding not in (None, DEFAULT_EMBEDDING):
        found.append(("embedding", "embedding", parse_reference(str(spec.embedding))))
    return tuple(dict.fromkeys(found))


def reworded(spec: TargetSpec, words: Mapping[str, str]) -> TargetSpec:
    """A target with each of its references replaced by another one for the same version."""
    return TargetSpec(
        adapters=_substituted(spec.adapters, words),
        embedding=None if spec.embedding is None else words.get(spec.embedding, spec.embedding),
        head=None if spec.head is None else words[spec.head],
    )


def pinned(found: Resolved) -> str:
    """The reference by digest of a version."""
    return f"{found.version.ref.name}@{found.version.ref.digest}"


def package_bytes(manifest: Manifest) -> bytes:
    """The native package of a target: a safetensors header and no data; what `adapters.formats.native.write` writes."""
    header = {"__metadata__": {"format": FORMAT, "manifest": manifest_json(manifest)}}
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _mentioned(value: Any) -> Iterator[tuple[str, str]]:
    """(role, reference) of all in the JSON of a valid composition, in the order written."""
    if isinstance(value, str):
        yield "adapter", value
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _mentioned(child)
    else:
        kind = next(key for key in value if key in BLOCKS)
        yield from _mentioned(value[kind])
        if kind == "fuse":
            yield "fusion", value["name"]


def _substituted(value: Any, words: Mapping[str, str]) -> Any:
    """The canonical JSON of a composition with its references replaced."""
    if isinstance(value, str):
        return words[value]
    if isinstance(value, list):
        return [_substituted(child, words) for child in value]
    return {key: _substituted(item, words) if key in BLOCKS or key == "name" else item for key, item in value.items()}
