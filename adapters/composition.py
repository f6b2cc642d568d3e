"""Compositions: which adapters run, in which arrangement, as frozen and hashable values.

The blocks and the nesting table are AdapterHub's (Pfeiffer et al. 2020, arXiv:2007.07779); `Sum` is PEFT's
arrangement of several active LoRAs. A JSON value parses into one value of this module; nothing is looked up here.

    "a" | ["a", "b"] | {"stack": [...]} | {"fuse": [...], "name"} | {"average": [...], "weights"}
    | {"parallel": [...]} | {"split": [...], "splits"} | {"sum": [...]} | {"multi_task": [...]}
    and, on the outermost block only, "skip_layers": [0, 3]
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapters.errors import InvalidComposition, InvalidName, UnsupportedComposition
from adapters.refs import AdapterRef, Reference, parse_reference

MAX_LEAVES = 32
MAX_DEPTH = 4
SMALLEST_SUM = 1e-6
LARGEST_WEIGHT = 1e6  # sums of larger ones could overflow


@dataclass(frozen=True, slots=True)
class Leaf:
    """One adapter: a client's `Reference`, or the `AdapterRef` that it was resolved to."""

    ref: Reference | AdapterRef


@dataclass(frozen=True, slots=True)
class Stack:
    """Children run one after another, bottom first. An empty stack is the bare backbone."""

    children: tuple["Block", ...]


@dataclass(frozen=True, slots=True)
class Fuse:
    """AdapterFusion: attention over the outputs of the children (arXiv:2005.00247); `name` is its package."""

    children: tuple["Block", ...]
    name: Reference | AdapterRef | None = None


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of the children's outputs, each times its weight; weights are divided by their sum first.

    As in AdapterHub, the mean comes on top of the weights: with n children, an adapter of weight w counts w / n.
    """

    children: tuple["Block", ...]
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Parallel:
    """Every child answers on its own, with its own head."""

    children: tuple["Block", ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Children act on consecutive runs of tokens; `splits` are their lengths, which a row may not exceed in all."""

    children: tuple["Block", ...]
    splits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """The children's deltas are added (PEFT with several active adapters)."""

    children: tuple["Block", ...]


@dataclass(frozen=True, slots=True)
class MultiTask:
    """One child per task id of a row."""

    children: tuple["Block", ...]


Block = Leaf | Stack | Fuse | Average | Parallel | Split | Sum | MultiTask


@dataclass(frozen=True, slots=True)
class Composition:
    """A block, and the layers in which no adapter acts (AdapterDrop, arXiv:2010.11918)."""

    block: Block
    skip_layers: frozenset[int] = frozenset()

    def leaves(self) -> Iterator[Leaf]:
        """Every adapter, in the order written."""
        return leaves(self.block)

    def map(self, resolve: Callable[[Reference | AdapterRef], AdapterRef]) -> "Composition":
        """The same arrangement with every reference replaced by what `resolve` returns."""
        return replace(self, block=_map(self.block, resolve))


BARE = Composition(Stack(()))
BLOCKS: Mapping[str, type[Any]] = {
    "stack": Stack,
    "fuse": Fuse,
    "average": Average,
    "parallel": Parallel,
    "split": Split,
    "sum": Sum,
    "multi_task": MultiTask,
}
_OPTIONS: Mapping[str, str] = {"fuse": "name", "average": "weights", "split": "splits"}
NESTING: Mapping[type[Any], tuple[type[Any], ...]] = {
    Stack: (Leaf, Fuse, Split, Parallel, Average, MultiTask, Sum),
    Fuse: (Leaf, Stack),
    Split: (Leaf, Split, Stack, Average),
    Parallel: (Leaf, Stack, Average),
    MultiTask: (Leaf, Stack, Average, Fuse),
    Average: (Leaf, Stack, Split),
    Sum: (Leaf,),
}


def parse(value: object) -> Composition:
    """Parse a JSON value; raises `InvalidComposition` with a pointer to the fault."""
    skip: frozenset[int] = frozenset()
    if isinstance(value, Mapping) and "skip_layers" in value:
        skip = parse_layers(value["skip_layers"])
        value = {key: item for key, item in value.items() if key != "skip_layers"}
    block = _parse_block(value, "", 0)
    composition = Composition(Stack((block,)) if isinstance(block, Leaf) else block, skip)
    if sum(1 for _ in composition.leaves()) > MAX_LEAVES:
        raise InvalidComposition(f"more than {MAX_LEAVES} adapters in one composition")
    return composition


def parse_target(text: str) -> tuple[Composition, Reference | None]:
    """Parse the short form `lang@prod+task@3~embedding`; `base` is the bare backbone."""
    stack, tilde, embedding = text.partition("~")
    names = [] if stack == "base" else stack.split("+")
    composition = parse(names)
    try:
        return composition, parse_reference(embedding) if tilde else None
    except InvalidName as error:
        raise InvalidComposition(str(error)) from error


def to_json(composition: Composition) -> dict[str, Any]:
    """The JSON object that parses to an equal value."""
    value = _block_json(composition.block)
    if not isinstance(value, dict):
        value = {"stack": [value]}
    if composition.skip_layers:
        value["skip_layers"] = sorted(composition.skip_layers)
    return value


def branches(composition: Composition) -> tuple[Composition, ...]:
    """One composition per branch of its `Parallel` (branch i of one goes with branch i of the others), or itself."""
    width = _width(composition, Parallel)
    return (composition,) if width is None else tuple(_with(composition, Parallel, i) for i in range(width))


def task_count(composition: Composition) -> int | None:
    """How many tasks a `MultiTask` in the composition tells apart; None without one."""
    return _width(composition, MultiTask)


def for_task(composition: Composition, task: int) -> Composition:
    """The composition with every `MultiTask` replaced by its child number `task`."""
    return _with(composition, MultiTask, task)


def leaves(block: Block) -> Iterator[Leaf]:
    """Every adapter of a block, in the order written."""
    if isinstance(block, Leaf):
        yield block
        return
    for child in block.children:
        yield from leaves(child)


def last(block: Block) -> Leaf | None:
    """The adapter that answers: the last one written; its head is the composition's (None for the bare backbone)."""
    return next(reversed(tuple(leaves(block))), None)


def _elements(block: Block) -> tuple[Block, ...]:
    return block.children if isinstance(block, Stack) else (block,)


def _width(composition: Composition, kind: type[Any]) -> int | None:
    widths = {len(element.children) for element in _elements(composition.block) if isinstance(element, kind)}
    if len(widths) > 1:
        raise UnsupportedComposition(f"the {kind.__name__} blocks of one stack differ in how many they hold", "/stack")
    return next(iter(widths), None)


def _with(composition: Composition, kind: type[Any], choice: int) -> Composition:
    """Every block of a kind replaced by one of its children; a stack inside of a stack becomes part of it."""
    chosen = [e.children[choice] if isinstance(e, kind) else e for e in _elements(composition.block)]
    return replace(composition, block=Stack(tuple(part for block in chosen for part in _elements(block))))


def _map(block: Block, resolve: Callable[[Reference | AdapterRef], AdapterRef]) -> Block:
    if isinstance(block, Leaf):
        return Leaf(resolve(block.ref))
    children = tuple(_map(child, resolve) for child in block.children)
    if isinstance(block, Fuse) and block.name is not None:
        return replace(block, children=children, name=resolve(block.name))
    return replace(block, children=children)


def _parse_block(value: object, pointer: str, depth: int) -> Block:
    if depth > MAX_DEPTH:
        raise InvalidComposition(f"nested deeper than {MAX_DEPTH}", pointer)
    if isinstance(value, str):
        try:
            return Leaf(parse_reference(value))
        except InvalidName as error:
            raise InvalidComposition(str(error), pointer) from error
    if isinstance(value, list | tuple):
        return _build("stack", list(value), {}, pointer, depth, children_at=pointer)
    if isinstance(value, Mapping):
        kinds = [key for key in value if key in BLOCKS]
        if len(kinds) != 1:
            raise InvalidComposition(f"an object names exactly one of {', '.join(sorted(BLOCKS))}", pointer)
        kind = kinds[0]
        unknown = sorted(str(key) for key in value if key not in (kind, _OPTIONS.get(kind)))
        if unknown:
            raise InvalidComposition(f"unknown member {unknown[0]!r} beside {kind!r}", f"{pointer}/{unknown[0]}")
        options = {key: value[key] for key in value if key != kind}
        return _build(kind, value[kind], options, pointer, depth, children_at=f"{pointer}/{kind}")
    raise InvalidComposition(f"a composition is a string, a list or an object, not {type(value).__name__}", pointer)


def _build(kind: str, items: object, options: Mapping[str, Any], at: str, depth: int, children_at: str) -> Block:
    block = BLOCKS[kind]
    if not isinstance(items, list | tuple):
        raise InvalidComposition(f"{kind!r} takes a list", children_at)
    if not items and (kind != "stack" or depth):
        raise InvalidComposition(f"{kind!r} is empty", children_at)
    children = tuple(_parse_block(item, f"{children_at}/{i}", depth + 1) for i, item in enumerate(items))
    for i, child in enumerate(children):
        if not isinstance(child, NESTING[block]):
            raise InvalidComposition(f"{block.__name__} can not hold {type(child).__name__}", f"{children_at}/{i}")
    extra: dict[str, Any] = {}
    if kind == "fuse" and options.get("name") is not None:
        try:
            extra["name"] = parse_reference(options["name"])
        except InvalidName as error:
            raise InvalidComposition(str(error), f"{at}/name") from error
    if kind == "average" and options.get("weights") is not None:
        extra["weights"] = parse_weights(options["weights"], len(children), f"{at}/weights")
    if kind == "split":
        extra["splits"] = parse_splits(options.get("splits"), len(children), f"{at}/splits")
    built: Block = block(children, **extra)
    return built


def parse_weights(value: object, count: int, at: str) -> tuple[float, ...]:
    """The weights of an `Average` of so many children; raises `InvalidComposition`, pointing `at` them."""
    if not isinstance(value, list | tuple) or len(value) != count:
        raise InvalidComposition(f"weights takes {count} numbers, one per child", at)
    if not all(type(w) in {int, float} and -LARGEST_WEIGHT <= w <= LARGEST_WEIGHT for w in value):
        raise InvalidComposition(f"weights must be numbers between -{LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}", at)
    if abs(sum(value)) < SMALLEST_SUM:
        raise InvalidComposition("weights are divided by their sum, which is zero", at)
    return tuple(float(weight) for weight in value)


def parse_splits(value: object, count: int, at: str) -> tuple[int, ...]:
    """The lengths of a `Split` of so many children; raises `InvalidComposition`, pointing `at` them."""
    if not isinstance(value, list | tuple) or len(value) != count:
        raise InvalidComposition(f"splits takes {count} lengths, one per child", at)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value):
        raise InvalidComposition("splits must be positive integers", at)
    return tuple(value)


def parse_layers(value: object) -> frozenset[int]:
    """The layers of `skip_layers`; raises `InvalidComposition`."""
    if not isinstance(value, list | tuple) or any(type(n) is not int or not 0 <= n < 1000 for n in value):
        raise InvalidComposition("skip_layers takes layer numbers from 0", "/skip_layers")
    return frozenset(value)


def _block_json(block: Block) -> Any:
    if isinstance(block, Leaf):
        return str(block.ref) if isinstance(block.ref, Reference) else f"{block.ref.name}@{block.ref.digest}"
    kind = next(name for name, cls in BLOCKS.items() if cls is type(block))
    value: dict[str, Any] = {kind: [_block_json(child) for child in block.children]}
    option = _OPTIONS.get(kind)
    if option is not None and getattr(block, option) is not None:
        held = getattr(block, option)
        value[option] = list(held) if isinstance(held, tuple) else str(held)
    return value
