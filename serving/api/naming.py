"""What a request names, as written: a composition of references, each with its JSON pointer, and the rules of its form.

Nothing is looked up here. What stands for several rows (`Parallel`, `MultiTask`) must be at the outside, and every
`Fuse` must name its package: the library runs no other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.composition import (
    BARE,
    BLOCKS,
    Block,
    Composition,
    Fuse,
    Leaf,
    MultiTask,
    Parallel,
    Stack,
    branches,
    for_task,
    parse,
    parse_target,
    task_count,
)
from adapters.errors import AdapterError, InvalidComposition
from adapters.refs import Reference
from serving.errors import Fault, Unprocessable, from_library

AT = "/adapters"


@dataclass(frozen=True)
class Named:
    """A composition of references and a vocabulary (from `a+b~klingon`); `places` are its blocks with their pointers."""

    composition: Composition
    embedding: Reference | None = None
    places: tuple[tuple[Block, str], ...] = field(default=(), repr=False)

    @property
    def alone(self) -> Reference | None:
        """The reference, where the composition is one name and nothing else: it may be a target."""
        block = self.composition.block
        child = block.children[0] if isinstance(block, Stack) and len(block.children) == 1 else None
        alone = isinstance(child, Leaf) and not self.composition.skip_layers
        return child.ref if alone and isinstance(child, Leaf) and isinstance(child.ref, Reference) else None

    @property
    def tasks(self) -> int | None:
        """How many tasks a `MultiTask` tells apart; None without one."""
        return task_count(self.composition)

    def task_names(self) -> tuple[frozenset[str], ...]:
        """What a client may call each task: its adapter, as written or without version; the last one of a chain."""
        blocks = [block for block, _ in self.places if isinstance(block, MultiTask)]
        return tuple(
            frozenset(name for block in blocks for name in _names(block.children[i])) for i in range(self.tasks or 0)
        )

    def branches(self, task: int) -> tuple[Composition, ...]:
        """What one input of a task runs as: one composition per branch."""
        chosen = self.composition if self.tasks is None else for_task(self.composition, task)
        return branches(chosen)

    @property
    def parallel(self) -> bool:
        """Whether every input is answered by branches."""
        return any(isinstance(block, Parallel) for block, _ in self.places)


def named(raw: object) -> Named:
    """The `adapters` of a request; None and `[]` are the bare backbone. Raises `Unprocessable` with a pointer."""
    try:
        if isinstance(raw, str):
            composition, embedding = parse_target(raw)
        else:
            composition, embedding = BARE if raw is None else parse(raw), None
        return _checked(Named(composition, embedding, tuple(_located(composition.block, raw, AT))))
    except AdapterError as error:
        refusal = from_library(error, AT)
        refusal.faults = tuple(Fault(_as_written(raw, fault.pointer), fault.detail) for fault in refusal.faults)
        raise refusal from error


def of_target(adapters: Mapping[str, Any]) -> Named:
    """The composition of a published target: all of it stands where the request names the target."""
    composition = parse(adapters)
    return _checked(Named(composition, None, tuple(_located(composition.block, None, AT))))


def _checked(found: Named) -> Named:
    for block, pointer in found.places:
        if isinstance(block, Fuse) and block.name is None:
            detail = 'Fuse needs its fusion package: {"fuse": [...], "name": "its name"}'
            raise Unprocessable(detail, code="missing_fusion", pointer=f"{pointer}/name")
    outside = {id(element) for element in _elements(found.composition.block)}
    for block, pointer in found.places:
        if isinstance(block, Parallel | MultiTask) and id(block) not in outside:
            detail = (
                f"{type(block).__name__} stands for several rows: it may be the whole, or stand in the outermost stack"
            )
            raise Unprocessable(detail, code="unsupported_composition", pointer=pointer)
    for task in range(found.tasks or 1):
        found.branches(task)
    return found


def _elements(block: Block) -> tuple[Block, ...]:
    return block.children if isinstance(block, Stack) else (block,)


def _located(block: Block, raw: object, at: str) -> Iterator[tuple[Block, str]]:
    """Every block with its pointer, in the order written, a block after what it holds.

    The short form `a+b` has one pointer for all; elsewhere `raw` has the shape of the block.
    """
    if isinstance(block, Leaf):
        yield block, at
        return
    items, base = raw, at
    if isinstance(raw, Mapping):
        kind = next(name for name in BLOCKS if name in raw)
        items, base = raw[kind], f"{at}/{kind}"
    for i, child in enumerate(block.children):
        if isinstance(items, list | tuple):
            yield from _located(child, items[i], f"{base}/{i}")
        else:
            yield from _located(child, None, at)
    yield block, at


def _names(block: Block) -> Iterator[str]:
    while not isinstance(block, Leaf):
        block = block.children[-1]
    if not isinstance(block.ref, Reference):
        raise InvalidComposition("a request names references")
    yield str(block.ref)
    yield block.ref.name


def _as_written(raw: object, pointer: str) -> str:
    """A pointer into the parsed composition as one into what the client wrote: a list has no member `stack`."""
    if isinstance(raw, str) or (isinstance(raw, list) and pointer == f"{AT}/stack"):
        return AT
    return pointer.replace(f"{AT}/stack/", f"{AT}/", 1) if isinstance(raw, list) else pointer
