"""A native package in its parts, to be put together again with one of them replaced."""

import json
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Sound:
    """A package in its parts; `manifest` is the header's own, read."""

    header: Mapping[str, Any]  # tensors alone
    manifest: Mapping[str, Any]
    data: bytes

    def written(
        self, header: Mapping[str, Any] | None = None, manifest: Any = None, data: bytes | None = None
    ) -> bytes:
        """The bytes with some of the parts replaced; a manifest that is a text stays as it is written."""
        wanted = self.manifest if manifest is None else manifest
        text = wanted if isinstance(wanted, str) else json.dumps(wanted)
        whole = {
            "__metadata__": {"format": "chorus/1", "manifest": text},
            **(self.header if header is None else header),
        }
        return framed(json.dumps(whole).encode(), self.data if data is None else data)


def opened(package: bytes) -> Sound:
    """The parts of a sound package."""
    (length,) = struct.unpack("<Q", package[:8])
    header = json.loads(package[8 : 8 + length])
    return Sound(header, json.loads(header.pop("__metadata__")["manifest"]), package[8 + length :])


def framed(text: bytes, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file of this header, which may lie about its length."""
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def drawn(dice: random.Random, sound: Sound) -> tuple[dict[str, Any], str]:
    """A copy of the header, and one of its tensors."""
    header = json.loads(json.dumps(sound.header))
    return header, dice.choice([*header])
