"""`chorus diff`: what two versions say of themselves, and how far their tensors lie apart; compared on this machine."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.commands import tables
from serving.commands.options import InEmbeddings, Json, Reference, connect, space_of
from serving.namespaces import Packages

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.weights import Package

app = typer.Typer()


@dataclass(frozen=True)
class Said:
    """A member of the manifest that differs; None where one of them lacks it."""

    member: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Moved:
    """A tensor that differs; `change` is |b - a| / |a|, None where the shapes differ or one of them lacks it."""

    tensor: str
    before: list[int] | None
    after: list[int] | None
    change: float | None


@dataclass(frozen=True)
class Difference:
    """All in which two packages differ, and how many tensors are equal to the last bit."""

    manifest: tuple[Said, ...]
    tensors: tuple[Moved, ...]
    equal: int


@app.command()
def diff(
    ctx: typer.Context,
    before: Reference,
    after: Annotated[str, typer.Argument(metavar="NAME[@SELECTOR]", help="What to compare it with.")],
    *,
    embedding: InEmbeddings = False,
    as_json: Json = False,
) -> None:
    """Compare two versions: manifest, configuration, and tensors with their relative distance."""
    with connect(ctx) as client, tempfile.TemporaryDirectory(prefix="chorus-") as scratch:
        space = space_of(client, embedding=embedding)
        found = difference(
            _fetched(space, before, Path(scratch) / "before"), _fetched(space, after, Path(scratch) / "after")
        )
    if as_json:
        tables.print_json(asdict(found))
    else:
        _print(found)


def difference(before: "Package", after: "Package") -> Difference:
    """Everything that is not the same in two packages."""
    names = sorted(before.tensors.keys() | after.tensors.keys())
    moved = [_moved(name, before.tensors.get(name), after.tensors.get(name)) for name in names]
    apart = tuple(item for item in moved if item is not None)
    told = (_members(asdict(before.manifest)), _members(asdict(after.manifest)))
    said = [
        Said(member, told[0].get(member), told[1].get(member))
        for member in sorted(told[0].keys() | told[1].keys())
        if told[0].get(member) != told[1].get(member)
    ]
    return Difference(tuple(said), apart, len(names) - len(apart))


def _fetched(space: Packages, reference: str, file: Path) -> "Package":
    from adapters.formats import native  # noqa: PLC0415 - torch, only where it is asked for

    space.fetch(reference, file)
    return native.read(file.read_bytes())


def _moved(name: str, before: "Tensor | None", after: "Tensor | None") -> Moved | None:
    shapes = [None if tensor is None else list(tensor.shape) for tensor in (before, after)]
    if before is None or after is None or before.shape != after.shape:
        return Moved(name, shapes[0], shapes[1], None)
    if before.dtype == after.dtype and bool((before == after).all()):
        return None
    length, apart = float(before.double().norm()), float((after.double() - before.double()).norm())
    return Moved(name, shapes[0], shapes[1], apart / length if length else float(apart > 0))


def _members(value: Any) -> dict[str, Any]:
    """Every leaf of a manifest by its place."""
    return dict(_leaves("", value))


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{place}/{name}", item)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(f"{place}/{number}", item)
    elif value is not None:
        yield place, list(value) if isinstance(value, tuple) else value


def _print(found: Difference) -> None:
    if not found.manifest and not found.tensors:
        tables.done(f"equal: {found.equal} tensors and the manifest")
        return
    rows = [(item.member, _short(item.before), _short(item.after)) for item in found.manifest]
    tables.table(("MEMBER", "BEFORE", "AFTER"), rows)
    shown = [(item.tensor, _shape(item.before), _shape(item.after), _apart(item)) for item in found.tensors]
    tables.table(("TENSOR", "BEFORE", "AFTER", "CHANGE"), shown, right=frozenset({"CHANGE"}))
    tables.note(f"{found.equal} tensors are equal")


def _short(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


def _shape(shape: list[int] | None) -> str:
    return "-" if shape is None else " x ".join(map(str, shape)) or "one number"


def _apart(item: Moved) -> str:
    if item.change is not None:
        return f"{item.change:.2%}"
    return "other shape" if item.before and item.after else "new" if item.before is None else "gone"
