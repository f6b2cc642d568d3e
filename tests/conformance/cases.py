"""Read cases: folders in the format of the conformance data (`case.json`, `expected.safetensors`, artefacts)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

Output = Literal["logits", "hidden_state"]
LIBRARIES = ("adapterhub", "peft")
COMPARED: tuple[Output, ...] = ("logits", "hidden_state")


class NotComparable(Exception):
    """A case expects an output, or holds inputs, that no row of the library has; the case is refused, not passed."""


@dataclass(frozen=True)
class Expected:
    """One reference of one row. `values`: [labels], or [positions, width], padding and inserted tokens included."""

    name: str
    output: Output
    values: Tensor


@dataclass(frozen=True)
class CaseRow:
    """One input with what runs on it: a composition in the case's own names, and the name of a head."""

    index: int
    text: str | tuple[str, str]
    composition: Any
    head: str | None
    input_ids: tuple[int, ...]  # as the source library tokenized it, padding left out
    type_ids: tuple[int, ...] | None
    mask: Tensor  # [positions] bool, padding included
    expected: tuple[Expected, ...]


@dataclass(frozen=True)
class Case:
    """One folder: what it holds, and how its outputs are compared."""

    id: str
    folder: Path
    root: Path
    raw: Mapping[str, Any]

    @property
    def backbone(self) -> str:
        """Folder name of the backbone."""
        return str(self.raw["backbone"])

    @property
    def tolerance(self) -> tuple[float, float]:
        """Absolute and relative."""
        return float(self.raw["atol"]), float(self.raw["rtol"])

    @property
    def skip_layers(self) -> tuple[int, ...]:
        """Layers in which no adapter acts."""
        return tuple(self.raw.get("skip_layers") or ())

    def artefacts(self) -> Mapping[str, Path]:
        """Folder by adapter name."""
        return {item["name"]: self.folder / item["path"] for item in self.raw["adapters"]}

    def heads(self) -> Mapping[str | None, Path]:
        """Folder by head name; PEFT keeps the head in the adapter, AdapterHub names the head of a plain class None."""
        listed = {item["name"]: self.folder / item["path"] for item in self.raw.get("heads", ())}
        return {**self.artefacts(), **listed}

    def rows(self) -> tuple[CaseRow, ...]:
        """Every row of the case; raises `NotComparable`."""
        if self.raw["inputs_kind"] not in ("texts", "pairs"):
            raise NotComparable(f"inputs of kind {self.raw['inputs_kind']!r}")
        tensors = load_file(self.folder / self.raw["expected"]["file"])
        return tuple(_rows(self.raw, tensors))


def find(root: Path) -> tuple[Case, ...]:
    """Every case below `root`, which holds `adapterhub/` and `peft/`, or is the parent of an `open/` that does."""
    if not any((root / name).is_dir() for name in LIBRARIES) and (root / "open").is_dir():
        root = root / "open"
    found = [
        Case(f"{library}/{path.parent.name}", path.parent, root, json.loads(path.read_text()))
        for library in LIBRARIES
        for path in sorted((root / library).glob("*/case.json"))
    ]
    if not found:
        raise FileNotFoundError(f"{root} holds no conformance cases (adapterhub/*/case.json, peft/*/case.json)")
    return tuple(found)


def _rows(raw: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[CaseRow]:
    unknown = sorted(name for name in tensors if not name.startswith("input.") and not _comparable(name))
    if unknown:
        raise NotComparable(f"outputs {', '.join(unknown)}")
    masks = tensors["input.attention_mask"].bool()
    for i, (text, (composition, head)) in enumerate(zip(raw["inputs"], _arrangements(raw), strict=True)):
        mask = masks[i]
        type_ids = tensors.get("input.token_type_ids")
        yield CaseRow(
            index=i,
            text=text if isinstance(text, str) else (text[0], text[1]),
            composition=composition,
            head=head,
            input_ids=tuple(tensors["input.input_ids"][i][mask].tolist()),
            type_ids=None if type_ids is None else tuple(type_ids[i][mask].tolist()),
            mask=mask,
            expected=tuple(_expected(raw, tensors, i, bare=composition is None and head is None)),
        )


def _comparable(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in COMPARED


def _arrangements(raw: Mapping[str, Any]) -> Iterator[tuple[Any, str | None]]:
    """(composition, head name) of every input row."""
    composition = raw["composition"]
    if raw.get("rows"):
        yield from ((row["composition"], row["head"]) for row in raw["rows"])
    elif isinstance(composition, Mapping) and "batch_split" in composition:
        for part, count in zip(composition["batch_split"], composition["batch_sizes"], strict=True):
            yield from [(part, _last(part))] * count
    else:
        head = (raw.get("head") or {}).get("name")
        yield from [(composition, head)] * len(raw["inputs"])


def _last(composition: Any) -> str:
    """Name of the last adapter of a part: its head is the part's head."""
    while not isinstance(composition, str):
        blocks = composition.values() if isinstance(composition, Mapping) else [composition]
        composition = next(value for value in blocks if isinstance(value, list))[-1]
    return composition


def _expected(raw: Mapping[str, Any], tensors: Mapping[str, Tensor], row: int, *, bare: bool) -> Iterator[Expected]:
    """References of one row, under whichever of the format's names they are stored."""
    for output in COMPARED:
        if output == "logits" and bare and raw.get("rows"):
            continue  # logits of a head that is in no artefact: the class's own, freshly initialised
        if output in tensors:
            yield Expected(output, output, tensors[output][row])
        if (name := f"row.{row}.{output}") in tensors:
            yield Expected(name, output, tensors[name][0])
    composition = raw["composition"]
    if isinstance(composition, Mapping) and "batch_split" in composition:
        part, within = _part_of(row, composition["batch_sizes"])
        name = f"head_output.{part}.logits"
        if name in tensors:
            yield Expected(name, "logits", tensors[name][within])


def _part_of(row: int, sizes: list[int]) -> tuple[int, int]:
    for part, size in enumerate(sizes):
        if row < size:
            return part, row
        row -= size
    raise NotComparable(f"batch sizes {sizes} are fewer than the inputs")


def full_mask(mask: Tensor, inserted: int, at: int) -> Tensor:
    """The mask [positions + inserted] of a row into which prompt tuning put `inserted` tokens before `at`."""
    return torch.cat([mask[:at], torch.ones(inserted, dtype=torch.bool), mask[at:]])
