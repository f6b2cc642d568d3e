"""What runs on every input of a case: a composition in the library's grammar, and the head that answers.

A case's own names need not fit our grammar, so that numbered ones stand in for them. `BatchSplit`, which our grammar
does not have, gives every input its own part; `Parallel` gives every input a row per branch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapters import composition
from adapters.composition import Composition

Kind = Literal["adapter", "fusion"]
Named = tuple[Kind, str]


@dataclass(frozen=True)
class Arranged:
    """One row: what runs on input `source`.

    `place`: its row in the batch that the source library ran, where branches follow one another. `part`: which of
    several head outputs is its own, and the row in it.
    """

    composition: Composition
    names: Mapping[str, Named]  # stand-in -> what the case calls it
    head: str | None
    source: int
    place: int
    part: tuple[int, int] | None = None

    @property
    def bare(self) -> bool:
        """Whether neither an adapter nor a head is named."""
        return self.head is None and next(self.composition.leaves(), None) is None

    @property
    def top(self) -> str | None:
        """The case's name of the last adapter, whose head is the composition's."""
        leaf = composition.last(self.composition.block)
        return None if leaf is None else self.names[leaf.ref.name][1]


@dataclass
class _Names:
    """Stand-ins for the names of one composition."""

    given: dict[Named, str] = field(default_factory=dict)

    def of(self, kind: Kind, name: str) -> str:
        return self.given.setdefault((kind, name), f"n{len(self.given)}")

    def back(self) -> dict[str, Named]:
        return {alias: named for named, alias in self.given.items()}


def arrange(raw: Mapping[str, Any], inputs: int) -> Iterator[Arranged]:
    """Every row of a case with so many inputs, branch by branch; raises what the grammar raises."""
    rows = [_of_input(raw, i, inputs) for i in range(inputs)]
    for branch in range(max(map(len, rows), default=0)):
        yield from (branches[branch] for branches in rows if branch < len(branches))


def _of_input(raw: Mapping[str, Any], i: int, inputs: int) -> list[Arranged]:
    given = raw["rows"][i] if raw.get("rows") else raw
    head = given["head"]["name"] if isinstance(given.get("head"), Mapping) else given.get("head")
    value, part = _own_part(given["composition"], i)
    names = _Names()
    parsed = _parse(value, names, raw.get("skip_layers") or ())
    if composition.task_count(parsed) is not None:
        parsed = composition.for_task(parsed, raw["task_ids"][i])
    branches = composition.branches(parsed)
    if len(branches) == 1:
        found = Arranged(parsed, names.back(), head, i, i, part)
        return [found if part is None or head is not None else _with_top_head(found)]
    return [
        _with_top_head(Arranged(branch, names.back(), head, i, at * inputs + i, (at, i)))
        for at, branch in enumerate(branches)
    ]


def _with_top_head(row: Arranged) -> Arranged:
    return Arranged(row.composition, row.names, row.head or row.top, row.source, row.place, row.part)


def _parse(value: Any, names: _Names, skip_layers: Any) -> Composition:
    renamed = [] if value is None else _renamed(value, names)
    if skip_layers:
        block = renamed if isinstance(renamed, Mapping) else {"stack": renamed if value is None else [renamed]}
        renamed = {**block, "skip_layers": list(skip_layers)}
    return composition.parse(renamed)


def _renamed(value: Any, names: _Names) -> Any:
    if isinstance(value, str):
        return names.of("adapter", value)
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, Mapping):
        return value
    renamed = {key: _renamed(item, names) if key in composition.BLOCKS else item for key, item in value.items()}
    if "fuse" in value:  # AdapterHub calls a fusion by what it fuses, unless it is told a name
        renamed["name"] = names.of("fusion", value.get("name") or ",".join(_last(child) for child in value["fuse"]))
    return renamed


def _last(value: Any) -> str:
    while not isinstance(value, str):
        blocks = value.values() if isinstance(value, Mapping) else [value]
        value = next(item for item in blocks if isinstance(item, list))[-1]
    return value


def _own_part(value: Any, i: int) -> tuple[Any, tuple[int, int] | None]:
    """(the composition with each BatchSplit replaced by what input i gets, (number of that part, row in it))."""
    if isinstance(value, list):
        children = [_own_part(item, i) for item in value]
        return [child for child, _ in children], next((part for _, part in children if part), None)
    if not isinstance(value, Mapping):
        return value, None
    if "batch_split" in value:
        row = i
        for number, size in enumerate(value["batch_sizes"]):
            if row < size:
                return _own_part(value["batch_split"][number], row)[0], (number, row)
            row -= size
        raise ValueError(f"batch sizes {value['batch_sizes']} are fewer than the inputs")
    found = {key: _own_part(item, i) for key, item in value.items()}
    return {key: item for key, (item, _) in found.items()}, next((part for _, part in found.values() if part), None)
