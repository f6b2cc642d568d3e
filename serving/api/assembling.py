"""A target from what its author wrote: read, looked up and judged as a request would be, then pinned by digest.

What the data plane would refuse for every request that names the target is refused here, by the same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.architectures.geometry import Geometry
from adapters.composition import Fuse, Leaf, to_json
from adapters.manifest import Manifest, TargetSpec
from adapters.refs import Reference
from adapters.requires import Requires
from serving.api.arranging import check_arrangement
from serving.api.naming import AT, Named, named
from serving.api.resolving import DEFAULT_EMBEDDING, Resolver
from serving.api.screening import screen_composition
from serving.errors import Unprocessable
from serving.registry.records import Member, NewTarget, Resolved
from serving.registry.targets import pinned, reworded


@dataclass(frozen=True)
class TargetWish:
    """A target as its author wrote it: a composition (JSON, or the short form `a+b~embedding`), vocabulary and head."""

    adapters: Any
    embedding: str | None = None
    head: str | None = None


async def assemble(wish: TargetWish, resolver: Resolver, geometry: Geometry) -> NewTarget:
    """Resolve, check and pin all that a target names.

    Raises `NotFound`, `NotReady` or `Unprocessable` with a pointer to the name at fault.
    """
    screen_composition(wish.adapters)
    names = _read(wish, geometry)
    await _refuse_target(names, resolver)
    adapters, fusions = await _held(names, resolver)
    check_arrangement(names, {reference: found.version.manifest for reference, found in adapters.items()})
    head = None if wish.head is None else await resolver.head(wish.head, "/head")
    if head is not None and names.parallel:
        detail = "a parallel composition answers with the head of each branch's last adapter: leave `head` out"
        raise Unprocessable(detail, code="ambiguous_head", pointer="/head")
    ran = _in_order(names, adapters, fusions)
    embedding = await _embedding(wish, names, [*ran, *([head] if head else [])], resolver)
    _check_vocabulary(head, embedding, geometry)
    words = {str(reference): pinned(found) for held in (adapters, fusions) for reference, found in held.items()}
    spec = replace(
        reworded(TargetSpec(to_json(names.composition)), words),
        embedding=pinned(embedding) if isinstance(embedding, Resolved) else embedding,
        head=None if head is None else pinned(head),
    )
    every = [*ran, *(found for found in (head, embedding) if isinstance(found, Resolved))]
    members = tuple(dict.fromkeys(Member(found.version.space, found.version.ref) for found in every))
    requires = Requires.of(geometry)
    return NewTarget(Manifest("target", requires, target=spec), members)


def _read(wish: TargetWish, geometry: Geometry) -> Named:
    if wish.adapters is None:
        raise Unprocessable("name the adapters; [] is the bare backbone", code="missing_adapters", pointer=AT)
    names = named(wish.adapters)
    if any(layer >= geometry.layers for layer in names.composition.skip_layers):
        detail = f"skip_layers: the backbone has the layers 0 to {geometry.layers - 1}"
        raise Unprocessable(detail, code="invalid_composition", pointer=f"{AT}/skip_layers")
    return names


async def _refuse_target(names: Named, resolver: Resolver) -> None:
    """One name alone may be a target in a request, and never in a target."""
    if names.alone is not None:
        pointer = names.places[0][1]
        found = await resolver.pin("adapter", names.alone, pointer)
        if found.version.manifest.target is not None:
            detail = f"{names.alone} is a target: a target holds adapters, so write out what it is made of"
            raise Unprocessable(detail, code="wrong_kind", pointer=pointer)


_Held = Mapping[Reference, Resolved]


async def _held(names: Named, resolver: Resolver) -> tuple[_Held, _Held]:
    """(adapters, fusions). One name means one version wherever it stands, also while an alias moves."""
    adapters: dict[Reference, Resolved] = {}
    fusions: dict[tuple[Reference, int], Resolved] = {}
    for block, pointer in names.places:
        if isinstance(block, Leaf) and isinstance(block.ref, Reference) and block.ref not in adapters:
            adapters[block.ref] = await resolver.adapter(block.ref, pointer)
        elif isinstance(block, Fuse) and isinstance(block.name, Reference):
            wanted = (block.name, len(block.children))
            if wanted not in fusions:
                fusions[wanted] = await resolver.fusion(block.name, f"{pointer}/name", arms=wanted[1])
    return adapters, {reference: found for (reference, _), found in fusions.items()}


def _in_order(names: Named, adapters: _Held, fusions: _Held) -> list[Resolved]:
    """What the composition names, in the order written."""
    found = []
    for block, _ in names.places:
        if isinstance(block, Leaf) and isinstance(block.ref, Reference):
            found.append(adapters[block.ref])
        elif isinstance(block, Fuse) and isinstance(block.name, Reference):
            found.append(fusions[block.name])
    return found


async def _embedding(
    wish: TargetWish, names: Named, packages: Sequence[Resolved], resolver: Resolver
) -> Resolved | str | None:
    """Explicit, else the one that the packages were made for; None leaves it to the tenant's active one."""
    if wish.embedding is not None and names.embedding is not None:
        detail = f"the vocabulary is named twice: here, and as ~{names.embedding} in adapters"
        raise Unprocessable(detail, code="ambiguous_embedding", pointer="/embedding")
    if names.embedding is not None:
        return await resolver.embedding(str(names.embedding), AT) or DEFAULT_EMBEDDING
    if wish.embedding is not None:
        return await resolver.embedding(wish.embedding, "/embedding") or DEFAULT_EMBEDDING
    wanted = {found.version.manifest.requires.embedding for found in packages} - {None}
    return None if not wanted else await resolver.wanted_embedding(packages) or DEFAULT_EMBEDDING


def _check_vocabulary(head: Resolved | None, embedding: Resolved | str | None, geometry: Geometry) -> None:
    """Raise `Unprocessable` for a head over another vocabulary than the one that the target names."""
    made = None if head is None else head.version.manifest.head
    if made is None or made.vocabulary is None or embedding is None:
        return
    spec = embedding.version.manifest.embedding if isinstance(embedding, Resolved) else None
    rows = geometry.vocabulary if spec is None else spec.vocabulary
    if made.vocabulary != rows:
        detail = f"the head scores a vocabulary of {made.vocabulary}, and the text is read with {rows}"
        raise Unprocessable(f"{detail}: name the `embedding` it was made for", code="wrong_head", pointer="/head")
