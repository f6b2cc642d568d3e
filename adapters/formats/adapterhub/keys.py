"""One key of an AdapterHub checkpoint, and taking a table of them out of a file.

Keys are relative to the base model; a checkpoint saved from a model with a head has the family's prefix before them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Module names of adapter-transformers 1.x; the present library renames them as it loads.
LEGACY: Mapping[str, str] = {
    "attention_text_task_adapters": "adapters",
    "attention_text_lang_adapters": "adapters",
    "layer_text_task_adapters": "adapters",
    "layer_text_lang_adapters": "adapters",
    "invertible_lang_adapters": "invertible_adapters",
}


@dataclass(frozen=True)
class Key:
    """One stored tensor, and the native tensors that are its equal blocks along the first dimension (mostly one).

    The library may store the same memory under further names.
    """

    stored: str
    natives: tuple[str, ...]
    copies: tuple[str, ...] = ()
    column: bool = False  # stored as [n, 1]

    def unpack(self, tensor: Tensor) -> dict[str, Tensor]:
        """Native tensors from the stored one; raises `ValueError` where it is not so many equal blocks."""
        if self.column and tensor.dim() == 2 and tensor.shape[1] == 1:
            tensor = tensor.reshape(-1)
        if len(self.natives) == 1:
            return {self.natives[0]: tensor}
        if tensor.dim() == 0 or tensor.shape[0] == 0 or tensor.shape[0] % len(self.natives):
            raise ValueError(
                f"{self.stored} {list(tensor.shape)} is not one block for each of {len(self.natives)} maps"
            )
        return dict(zip(self.natives, tensor.chunk(len(self.natives)), strict=True))

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The stored tensor from the native ones."""
        blocks = [tensors[native] for native in self.natives]
        whole = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        return whole.unsqueeze(1) if self.column else whole


@dataclass(frozen=True, eq=False)
class Taken:
    """What a table found: native tensors, keys that are missing, other faults, and the keys that it left over."""

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    faults: tuple[str, ...]
    rest: Mapping[str, str]  # relative name -> key


def take(stored: Mapping[str, Tensor], table: Iterable[Key], prefix: str) -> Taken:
    """Take every key of a table; all faults are found."""
    below = {modern(key.removeprefix(f"{prefix}.")): (key, tensor) for key, tensor in stored.items()}
    faults = [] if len(below) == len(stored) else ["some tensors are stored with and without the model's prefix"]
    missing: list[str] = []
    tensors: dict[str, Tensor] = {}
    for key in table:
        held = [below.pop(name)[1] for name in (key.stored, *key.copies) if name in below]
        if not held:
            missing.append(key.stored)
            continue
        if any(not torch.equal(held[0], copy) for copy in held[1:]):
            faults.append(f"the copies of {key.stored} differ from one another")
        try:
            tensors |= key.unpack(held[0])
        except ValueError as error:
            faults.append(str(error))
    return Taken(tensors, tuple(missing), tuple(faults), {name: key for name, (key, _) in below.items()})


def modern(key: str) -> str:
    """A key of adapter-transformers 1.x under its present name."""
    return ".".join(LEGACY.get(segment, segment) for segment in key.split("."))


def pair(native: str, stored: str) -> Iterator[Key]:
    """Weight and bias of a linear map or a norm."""
    yield from (Key(f"{stored}.{kind}", (f"{native}.{kind}",)) for kind in ("weight", "bias"))
