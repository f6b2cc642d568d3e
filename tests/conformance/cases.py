"""Read cases: folders in the format of the conformance data (`case.json`, `expected.safetensors`, artefacts)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from adapters.backbone import Want
from tests.conformance.arrangement import Arranged, arrange
from tests.conformance.references import Expected, comparable, references

LIBRARIES = ("adapterhub", "peft")
GENERATED = "generated"  # tokens of rows that went on, which `generated` compares
INPUTS = ("texts", "pairs", "choices", "pixel_values")

_GENERATING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
Text = str | tuple[str, str]
PIXELS = "input.pixel_values"


class NotComparable(Exception):
    """A case expects an output, or holds inputs, that no row of the library has; the case is refused, not passed."""


@dataclass(frozen=True)
class CaseRow:
    """One row of a case: an input with what runs on it, and its references."""

    label: str
    text: Text  # "" of an image
    arranged: Arranged
    input_ids: tuple[int, ...]  # as the source library tokenized it, padding left out
    type_ids: tuple[int, ...] | None
    word_starts: tuple[int, ...] | None
    mask: Tensor  # [positions] bool, padding included
    expected: tuple[Expected, ...]
    pixels: Tensor | None = None  # [channels, height, width] of an image
    decoder_ids: tuple[int, ...] | None = None

    def mask_of(self, want: Want) -> Tensor:
        """Which positions of an output count; those of a decoder's row all do."""
        answers = self.decoder_ids is not None and want != "encoder_hidden_state"
        return torch.ones(len(self.decoder_ids or ()), dtype=torch.bool) if answers else self.mask


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
    def own_head(self) -> bool:
        """Whether the class that it was computed with has a language model's head, which the backbone may hold."""
        return str(self.raw.get("model_class") or "").endswith(_GENERATING)

    @property
    def setup(self) -> Path | None:
        """The folder of a saved setup that holds the same adapters."""
        return self.folder / self.raw["setup_path"] if self.raw.get("setup_path") else None

    def artefacts(self) -> Mapping[str, Path]:
        """Folder by adapter name."""
        return self._folders("adapters")

    def fusions(self) -> Mapping[str, Path]:
        """Folder by fusion name."""
        return self._folders("fusions")

    def heads(self) -> Mapping[str | None, Path]:
        """Folder by head name; PEFT keeps the head in the adapter, AdapterHub names the head of a plain class None."""
        both = (*self.artefacts().items(), *self._folders("heads").items())
        return dict(both)

    def rows(self, pad_token_id: int) -> tuple[CaseRow, ...]:
        """Every row of the case; raises `NotComparable`."""
        return tuple(self._rows(self.raw, "row", pad_token_id))

    def rows_of_setup(self, composition: Mapping[str, Any], head: str | None, pad_token_id: int) -> tuple[CaseRow, ...]:
        """The same inputs and references under the composition and head that a saved setup says."""
        raw = {key: value for key, value in self.raw.items() if key != "skip_layers"}
        return tuple(self._rows({**raw, "composition": composition, "head": head}, "setup row", pad_token_id))

    def _folders(self, kind: str) -> dict[str, Path]:
        return {item["name"]: self.folder / item["path"] for item in self.raw.get(kind, ())}

    def _rows(self, raw: Mapping[str, Any], label: str, pad: int) -> Iterator[CaseRow]:
        if raw["inputs_kind"] not in INPUTS:
            raise NotComparable(f"inputs of kind {raw['inputs_kind']!r}")
        tensors = load_file(self.folder / raw["expected"]["file"])
        known = (lambda name: comparable(name) or name.endswith(GENERATED)) if raw.get("generate") else comparable
        unknown = sorted(name for name in tensors if not name.startswith("input.") and not known(name))
        if unknown:
            raise NotComparable(f"outputs {', '.join(unknown)}")
        pixels = tensors.get(PIXELS)
        if pixels is not None:
            patch = json.loads((self.root / "backbones" / self.backbone / "config.json").read_text())["patch_size"]
            tensors |= _tokens_of(pixels, patch)
        texts = tuple(_texts(raw)) if pixels is None else ("",) * len(pixels)
        masks, ids, types = (
            _flat(tensors, f"input.{name}") for name in ("attention_mask", "input_ids", "token_type_ids")
        )
        assert masks is not None
        assert ids is not None
        for arranged in arrange(raw, len(texts)):
            i = arranged.source
            mask = masks[i].bool()
            starts = _word_starts(raw["word_starts"][i], pad) if raw.get("word_starts") else None
            words = len(starts) - 1 if starts else 0
            yield CaseRow(
                label=f"{label} {arranged.place}",
                text=texts[i],
                arranged=arranged,
                input_ids=tuple(ids[i][mask].tolist()),
                type_ids=None if types is None else tuple(types[i][mask].tolist()),
                word_starts=starts,
                mask=mask,
                expected=tuple(
                    references(
                        tensors,
                        arranged,
                        words,
                        of_rows=bool(raw.get("rows")) and not self.own_head,
                        rounding=raw.get("rounding", {}),
                    )
                ),
                pixels=None if pixels is None else pixels[i],
                decoder_ids=tuple(raw["decoder_inputs"][i]) if raw.get("decoder_inputs") else None,
            )


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


def full_mask(mask: Tensor, inserted: int, at: int) -> Tensor:
    """The mask [positions + inserted] of a row into which prompt tuning put `inserted` tokens before `at`."""
    return torch.cat([mask[:at], torch.ones(inserted, dtype=torch.bool), mask[at:]])


def _texts(raw: Mapping[str, Any]) -> Iterator[Text]:
    """A text or a pair per row; a question makes a pair with each of its choices."""
    for item in raw["inputs"]:
        if raw["inputs_kind"] == "choices":
            yield from ((item[0], choice) for choice in item[1])
        else:
            yield item if isinstance(item, str) else (item[0], item[1])


def _tokens_of(pixels: Tensor, patch: int) -> dict[str, Tensor]:
    """The ids and the mask [images, tokens] that rows of images have: the class token and the patches, unpadded."""
    images, _, height, width = pixels.shape
    zeros = pixels.new_zeros(images, 1 + (height // patch) * (width // patch)).long()
    return {"input.input_ids": zeros, "input.attention_mask": zeros + 1}


def _flat(tensors: Mapping[str, Tensor], name: str) -> Tensor | None:
    """[rows, positions] of an input that may be stored as [questions, choices, positions]."""
    held = tensors.get(name)
    return None if held is None else held.reshape(-1, held.shape[-1])


def _word_starts(stored: list[int], pad: int) -> tuple[int, ...] | None:
    """Word starts as the source library reads them: entries equal to the padding id are none."""
    starts = [start for start in stored if start != pad]
    kept = starts[:1]
    for start in starts[1:]:
        if start <= 0:
            break
        kept.append(start)
    return tuple(kept) if len(kept) > 1 else None
