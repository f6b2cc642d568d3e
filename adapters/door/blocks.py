"""Compositions as AdapterHub's users write them, and which of them each row of a batch gets.

A name, a list (a stack), a block of this module or of `adapters.composition`, or the JSON of one. Names may be any
text here; references to versions and aliases belong to the service.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters import composition
from adapters.composition import BARE, NESTING, Block, Composition, Leaf
from adapters.errors import InvalidComposition
from adapters.refs import Reference

FUSION = "fusion"  # marks the references that mean fusions


@dataclass(frozen=True, init=False)
class BatchSplit:
    """Consecutive rows of a batch under a composition each; it may stand wherever an adapter may."""

    children: tuple["Block | BatchSplit", ...]
    batch_sizes: tuple[int, ...]

    def __init__(self, *children: Any, batch_sizes: Sequence[int] | int) -> None:
        sizes = _each(batch_sizes, children)
        whole = isinstance(sizes, list | tuple) and all(type(size) is int and size > 0 for size in sizes)
        if not children or not whole or len(sizes) != len(children):
            raise InvalidComposition(f"batch_sizes takes {len(children)} numbers of rows, one per child")
        object.__setattr__(self, "children", _blocks(children))
        object.__setattr__(self, "batch_sizes", tuple(sizes))


Setup = Block | BatchSplit


def Stack(*children: Any) -> Setup:  # noqa: N802 - AdapterHub's name
    """Children one after another, bottom first."""
    return block(list(children))


def Fuse(*children: Any, name: str | None = None) -> Setup:  # noqa: N802 - AdapterHub's name
    """AdapterFusion over the children; its layers are called as the children, joined by commas, unless named."""
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidComposition(f"the name of a Fuse is a text, not {name!r}")
    return _built(composition.Fuse(_blocks(children), None if name is None else Reference(name)))


def Average(  # noqa: N802 - AdapterHub's name
    *children: Any, weights: Sequence[float] | None = None, normalize_weights: bool = True
) -> Setup:
    """The weighted mean of the children's outputs, with AdapterHub's factor (see `composition.Average`)."""
    if not normalize_weights:
        raise InvalidComposition("weights are always divided by their sum: give weights that add up to 1")
    return _built(composition.Average(_blocks(children), weights))  # type: ignore[arg-type]  # _built reads them


def Parallel(*children: Any) -> Setup:  # noqa: N802 - AdapterHub's name
    """Every child answers for every row, with its own head."""
    return _built(composition.Parallel(_blocks(children)))


def Split(*children: Any, splits: Sequence[int] | int | None = None) -> Setup:  # noqa: N802 - AdapterHub's name
    """Children on consecutive runs of tokens, of these lengths; a number is the length of each."""
    return _built(composition.Split(_blocks(children), _each(splits, children)))  # _built reads them


def Sum(*children: Any) -> Setup:  # noqa: N802 - as its block is called
    """The children's updates added up, as PEFT does with several active LoRAs."""
    return _built(composition.Sum(_blocks(children)))


def MultiTask(*children: Any) -> Setup:  # noqa: N802 - AdapterHub's name
    """One child per task id of a row."""
    return _built(composition.MultiTask(_blocks(children)))


def block(value: Any) -> Setup:
    """Whatever a user writes as one block; raises `InvalidComposition` and `InvalidName`."""
    if isinstance(value, BatchSplit):
        return value
    if isinstance(value, str):
        return Leaf(Reference(value))
    if isinstance(value, Composition):
        return block(value.block)
    if isinstance(value, composition.Stack):
        return block(list(value.children))
    if isinstance(value, list | tuple):
        flat = [part for child in value for part in _elements(_inner(child))]
        return _built(composition.Stack(tuple(flat)))
    if isinstance(value, Mapping):
        return _parsed(value)
    if isinstance(value, Leaf):
        return value
    if isinstance(value, composition.Fuse | composition.Average | composition.Parallel | composition.Split):
        return _built(replace(value, children=_blocks(value.children)))
    if isinstance(value, composition.MultiTask | composition.Sum):
        return _built(replace(value, children=_blocks(value.children)))
    raise InvalidComposition(f"a composition is a name, a list, a block or its JSON, not {type(value).__name__}")


def for_rows(value: Setup, rows: int) -> list[Block]:
    """The block of each of so many rows; raises `InvalidComposition` where batch sizes do not add up to them."""
    if isinstance(value, BatchSplit):
        if sum(value.batch_sizes) != rows:
            raise InvalidComposition(f"batch_sizes {list(value.batch_sizes)} add up to no batch of {rows} rows")
        pairs = zip(value.children, value.batch_sizes, strict=True)
        return [part for child, size in pairs for part in for_rows(child, size)]
    if isinstance(value, Leaf) or not _splits(value):
        return [value] * rows
    columns = [for_rows(child, rows) for child in value.children]
    return [block(replace(value, children=tuple(column[row] for column in columns))) for row in range(rows)]  # type: ignore[misc]  # no BatchSplit is left


def shares(value: Setup, rows: int) -> list[Hashable]:
    """Which share of a `BatchSplit` each row is in: equal for rows of the same children."""
    if isinstance(value, Leaf) or not _splits(value):
        return [()] * rows
    if isinstance(value, BatchSplit):
        pairs = zip(value.children, value.batch_sizes, strict=True)
        return [(i, one) for i, (child, size) in enumerate(pairs) for one in shares(child, size)]
    return list(zip(*(shares(child, rows) for child in value.children), strict=True))


def composed(value: Block, skip_layers: frozenset[int]) -> Composition:
    """A block as the composition of a row: every fusion named, a single adapter as a stack."""
    named = _named(value)
    return Composition(composition.Stack((named,)) if isinstance(named, Leaf) else named, skip_layers)


def names(value: Setup | None) -> Iterator[str]:
    """The adapters' names in the order written."""
    if isinstance(value, Leaf):
        yield str(value.ref)
    elif value is not None:
        for child in value.children:
            yield from names(child)


def fusions(value: Setup | None) -> Iterator[str]:
    """The fusions' names in the order written."""
    if value is None or isinstance(value, Leaf):
        return
    if isinstance(value, composition.Fuse):
        yield fusion_name(value)
    for child in value.children:
        yield from fusions(child)


def has_one_head(value: Setup | None) -> bool:
    """Whether one head answers for all: nothing splits the batch, or runs in parallel."""
    if value is None or isinstance(value, Leaf):
        return True
    return not isinstance(value, BatchSplit | composition.Parallel) and all(has_one_head(c) for c in value.children)


def fusion_name(fuse: composition.Fuse) -> str:
    """What its fusion layers are called: the name given, else those of the children (of a stack: of its last)."""
    if fuse.name is not None:
        return fuse.name.name
    return ",".join(str(leaf.ref) for child in fuse.children if (leaf := composition.last(child)) is not None)


def skipped(value: Any) -> frozenset[int]:
    """The layers that a composition, or its JSON, says to skip; raises `InvalidComposition`."""
    if isinstance(value, Composition):
        return value.skip_layers
    said = isinstance(value, Mapping) and "skip_layers" in value
    return composition.parse_layers(value["skip_layers"]) if said else frozenset()


def _parsed(value: Mapping[str, Any]) -> Setup:
    """The grammar of `composition.parse`, with any name."""
    kinds = [kind for kind in _MAKERS if kind in value]
    if len(kinds) != 1:
        raise InvalidComposition(f"an object names exactly one of {', '.join(_MAKERS)}")
    make, option = _MAKERS[kinds[0]]
    options = {key: item for key, item in value.items() if key not in (kinds[0], "skip_layers")}
    if not isinstance(value[kinds[0]], list | tuple) or (set(options) - {option}):
        raise InvalidComposition(f"{kinds[0]!r} takes a list, and beside it {option or 'nothing'}, not {list(options)}")
    return make(*value[kinds[0]], **options)


def _blocks(children: Sequence[Any]) -> Any:
    return tuple(_inner(child) for child in children)


def _inner(value: Any) -> Setup:
    """A block inside of another, where layers can not be skipped."""
    if skipped(value):
        raise InvalidComposition("skip_layers belongs to the outermost block: it holds for a whole composition")
    return block(value)


def _each(value: Any, children: Sequence[Any]) -> Any:
    """A number for every child, where one is given for all."""
    return (value,) * len(children) if type(value) is int else value


def _built(value: Block) -> Block:
    """The block, once its children are what AdapterHub's table of nesting allows, and its numbers are theirs."""
    if isinstance(value, Leaf):
        return value
    kind = type(value)
    if not value.children and value != BARE.block:
        raise InvalidComposition(f"{kind.__name__} is empty")
    for child in value.children:
        if not isinstance(child, (*NESTING[kind], BatchSplit)):
            raise InvalidComposition(f"{kind.__name__} can not hold {type(child).__name__}")
    count = len(value.children)
    if isinstance(value, composition.Average) and value.weights is not None:
        return replace(value, weights=composition.parse_weights(value.weights, count, "/weights"))
    if isinstance(value, composition.Split):
        return replace(value, splits=composition.parse_splits(value.splits, count, "/splits"))
    return value


def _elements(value: Setup) -> tuple[Any, ...]:
    return value.children if isinstance(value, composition.Stack) else (value,)


def _splits(value: Setup) -> bool:
    if isinstance(value, Leaf):
        return False
    return isinstance(value, BatchSplit) or any(_splits(child) for child in value.children)


def _named(value: Block) -> Block:
    if isinstance(value, Leaf):
        return value
    children = tuple(_named(child) for child in value.children)
    if isinstance(value, composition.Fuse):
        return composition.Fuse(children, Reference(fusion_name(value), alias=FUSION))
    return replace(value, children=children)


_MAKERS: Mapping[str, tuple[Callable[..., Setup], str | None]] = {
    "stack": (Stack, None),
    "fuse": (Fuse, "name"),
    "average": (Average, "weights"),
    "parallel": (Parallel, None),
    "split": (Split, "splits"),
    "sum": (Sum, None),
    "multi_task": (MultiTask, None),
}
