"""Compositions under a name: every reference of a target is resolved, checked and pinned before it is stored.

A target is a native package without tensors. What it is made of is named by digest, so that no later publish or
promote changes what a version of a target means; it moves as a whole, by its own aliases.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.architectures.profile import Geometry
from adapters.composition import BLOCKS, branches, parse, parse_target, task_count, to_json
from adapters.errors import AdapterError, InvalidName
from adapters.manifest import FORMAT, Manifest, Requires, TargetSpec
from adapters.manifest import to_json as manifest_json
from adapters.refs import Reference, parse_reference
from serving.errors import ServiceError, Unprocessable, from_library
from serving.registry.records import DEFAULT_EMBEDDING, Member, NewTarget, Resolved, Space

_REMEDIES = {
    "head": "name it as `head`",
    "fusion": "it is the `name` of a fuse",
    "target": "a target holds adapters, not targets: write out what it is made of",
}


class Names(Protocol):
    """Where names are looked up: `serving.registry.snapshot.Directory`."""

    async def resolve(self, tenant: str, space: Space, reference: Reference) -> Resolved:
        """The pinned version; raises `NotFound` or `NotReady`."""
        ...


@dataclass(frozen=True)
class TargetWish:
    """A target as its author wrote it: a composition (JSON, or the short form `a+b~embedding`), vocabulary and head."""

    adapters: Any
    embedding: str | None = None
    head: str | None = None


@dataclass(frozen=True)
class _Named:
    """One reference in a composition. `arms` is how many children the fuse has whose package this is; 0 for a leaf."""

    text: str
    pointer: str
    arms: int = 0


async def assemble(wish: TargetWish, tenant: str, names: Names, geometry: Geometry) -> NewTarget:
    """Resolve and pin all that a target names.

    Raises `NotFound`, `NotReady` or `Unprocessable` with a pointer to the name at fault.
    """
    composed, mentioned, tilde = _read(wish, geometry)
    resolver = _Resolver(tenant, names)
    known: dict[str, Resolved] = {}  # one name means one version, also while an alias moves
    for named in mentioned:
        reference = str(parse_reference(named.text))
        if reference not in known:
            known[reference] = await resolver.find("adapter", named.text, named.pointer)
        _refuse_misplaced(named, known[reference])
    packages = list(known.values())
    head = None if wish.head is None else await _head(wish.head, resolver)
    embedding = await _embedding(wish, tilde, [*packages, *([head] if head else [])], resolver)
    spec = TargetSpec(
        adapters=_substituted(composed, {reference: pinned(found) for reference, found in known.items()}),
        embedding=embedding if isinstance(embedding, str) or embedding is None else pinned(embedding),
        head=None if head is None else pinned(head),
    )
    held = [*packages, *(found for found in (head, embedding) if isinstance(found, Resolved))]
    members = tuple(dict.fromkeys(Member(found.version.space, found.version.ref) for found in held))
    requires = Requires(geometry.model_type, geometry.hidden_size, geometry.layers, geometry.heads)
    return NewTarget(Manifest("target", requires, target=spec), members)


def members_of(spec: TargetSpec) -> tuple[tuple[str, Space, Reference], ...]:
    """(role, space, reference) of all that a target is made of, in the order written; a role is what it is used as."""
    found: list[tuple[str, Space, Reference]] = [
        ("fusion" if named.arms else "adapter", "adapter", parse_reference(named.text))
        for named in _mentioned(spec.adapters, "")
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


@dataclass(frozen=True)
class _Resolver:
    tenant: str
    names: Names

    async def find(self, space: Space, text: str, pointer: str) -> Resolved:
        """The version that a reference means; a refusal says where in the body it stands."""
        try:
            return await self.names.resolve(self.tenant, space, parse_reference(text))
        except InvalidName as error:
            raise Unprocessable(str(error), code="invalid_name", pointer=pointer) from error
        except ServiceError as error:
            raise type(error)(error.detail, code=error.code, pointer=pointer, retry_after=error.retry_after) from error


def _read(wish: TargetWish, geometry: Geometry) -> tuple[dict[str, Any], list[_Named], Reference | None]:
    """(the composition as canonical JSON, what it names, the vocabulary of the short form)."""
    tilde: Reference | None = None
    try:
        if isinstance(wish.adapters, str):
            composition, tilde = parse_target(wish.adapters)
            composed = to_json(composition)
            mentioned = [_Named(named.text, "/adapters") for named in _mentioned(composed, "")]
        else:
            composition = parse(wish.adapters)
            composed = to_json(composition)
            mentioned = list(_mentioned(wish.adapters, "/adapters"))
        branches(composition)
        task_count(composition)
    except AdapterError as error:
        raise from_library(error, "/adapters") from error
    if any(layer >= geometry.layers for layer in composition.skip_layers):
        detail = f"skip_layers: the backbone has the layers 0 to {geometry.layers - 1}"
        raise Unprocessable(detail, code="invalid_composition", pointer="/adapters/skip_layers")
    return composed, mentioned, tilde


def _mentioned(value: Any, pointer: str) -> Iterator[_Named]:
    """Every reference in the JSON of a valid composition, in the order written."""
    if isinstance(value, str):
        yield _Named(value, pointer)
    elif isinstance(value, list | tuple):
        for i, child in enumerate(value):
            yield from _mentioned(child, f"{pointer}/{i}")
    else:
        kind = next(key for key in value if key in BLOCKS)
        yield from _mentioned(value[kind], f"{pointer}/{kind}")
        if kind == "fuse":
            if value.get("name") is None:
                detail = "a fuse names its fusion package as `name`"
                raise Unprocessable(detail, code="missing_fusion", pointer=pointer)
            yield _Named(value["name"], f"{pointer}/name", arms=len(value[kind]))


def _substituted(value: Any, words: Mapping[str, str]) -> Any:
    """The canonical JSON of a composition with its references replaced."""
    if isinstance(value, str):
        return words[value]
    if isinstance(value, list):
        return [_substituted(child, words) for child in value]
    return {key: _substituted(item, words) if key in BLOCKS or key == "name" else item for key, item in value.items()}


def _refuse_misplaced(named: _Named, found: Resolved) -> None:
    manifest = found.version.manifest
    if named.arms:
        if manifest.kind != "fusion":
            detail = f"{named.text} is a package of kind {manifest.kind}: a fuse needs one of kind fusion"
            raise Unprocessable(detail, code="wrong_kind", pointer=named.pointer)
        if len(manifest.children) != named.arms:
            detail = f"{named.text} fuses {len(manifest.children)} adapters, not {named.arms}"
            raise Unprocessable(detail, code="wrong_fusion", pointer=named.pointer)
    elif manifest.kind != "adapter":
        remedy = _REMEDIES.get(manifest.kind, "a composition holds adapters")
        detail = f"{named.text} is a package of kind {manifest.kind}: {remedy}"
        raise Unprocessable(detail, code="wrong_kind", pointer=named.pointer)


async def _head(text: str, resolver: _Resolver) -> Resolved:
    found = await resolver.find("adapter", text, "/head")
    if found.version.manifest.head is None:
        raise Unprocessable(f"{text} holds no head", code="no_head", pointer="/head")
    return found


async def _embedding(
    wish: TargetWish, tilde: Reference | None, packages: list[Resolved], resolver: _Resolver
) -> Resolved | str | None:
    """Explicit, else the one that the packages were made for; None leaves it to the tenant's active one."""
    if wish.embedding is not None and tilde is not None:
        detail = f"the vocabulary is named twice: here, and as ~{tilde} in adapters"
        raise Unprocessable(detail, code="ambiguous_embedding", pointer="/embedding")
    text, pointer = (wish.embedding, "/embedding") if tilde is None else (str(tilde), "/adapters")
    if text is None:
        wanted = {found.version.manifest.requires.embedding for found in packages} - {None}
        if len(wanted) > 1:
            detail = f"the packages were made for different vocabularies ({', '.join(sorted(map(str, wanted)))})"
            raise Unprocessable(
                f"{detail}: name one as `embedding`", code="contradicting_embeddings", pointer="/embedding"
            )
        text, pointer = next(iter(wanted), None), "/embedding"
    if text is None or text == DEFAULT_EMBEDDING:
        return text
    return await resolver.find("embedding", text, pointer)
