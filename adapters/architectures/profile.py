"""The profile of a backbone folder: geometry, digest, and which parts its checkpoint really holds; read without torch.

Every process of the service knows the backbone by this value; only the engine loads the weights.
"""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.architectures.families import architecture_of
from adapters.errors import UnknownArchitecture


@dataclass(frozen=True)
class Geometry:
    """The sizes that a package must fit. Widths are in units of one activation."""

    model_type: str
    hidden_size: int
    embedding_size: int
    intermediate_size: int
    layers: int
    heads: int
    vocabulary: int
    max_tokens: int  # longest row, special tokens included
    type_vocabulary: int  # 0 where the family has no segment ids
    pad_token_id: int

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads


@dataclass(frozen=True)
class BackboneProfile:
    """One backbone: its id (folder name), digest (config and weights) and geometry."""

    id: str
    digest: str
    geometry: Geometry
    has_pooler: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "BackboneProfile":
        """The profile that `to_json` wrote."""
        return cls(value["id"], value["digest"], Geometry(**value["geometry"]), value["has_pooler"])


def read_profile(folder: Path) -> BackboneProfile:
    """Read a Hugging Face model folder (`config.json`, `*.safetensors`); raises `UnknownArchitecture`."""
    config_path, weights = folder / "config.json", sorted(folder.glob("*.safetensors"))
    if not config_path.is_file() or not weights:
        raise UnknownArchitecture(f"{folder} is no backbone: it needs config.json and model.safetensors")
    config = json.loads(config_path.read_text())
    digest = hashlib.sha256(config_path.read_bytes())
    names: set[str] = set()
    for path in weights:
        names |= _tensor_names(path)
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    held = any(name.removeprefix(f"{config.get('model_type')}.").startswith("pooler.") for name in names)
    return BackboneProfile(folder.absolute().name, f"sha256:{digest.hexdigest()}", read_geometry(config), held)


def read_geometry(config: dict[str, Any]) -> Geometry:
    """Geometry of a `config.json` of a known family; DistilBERT spells its sizes differently from the others."""

    def pick(*names: str, default: int | None = None) -> int:
        for name in names:
            if isinstance(config.get(name), int):
                return int(config[name])
        if default is None:
            raise UnknownArchitecture(f"config.json has none of {', '.join(names)}")
        return default

    family = architecture_of(str(config.get("model_type", "")))
    hidden = pick("hidden_size", "dim")
    pad = pick("pad_token_id", default=0)
    positions = pick("max_position_embeddings")
    offset = pad + 1 if family.positions_after_pad else 0
    return Geometry(
        model_type=family.model_type,
        hidden_size=hidden,
        embedding_size=pick("embedding_size", default=hidden),
        intermediate_size=pick("intermediate_size", "hidden_dim"),
        layers=pick("num_hidden_layers", "n_layers"),
        heads=pick("num_attention_heads", "n_heads"),
        vocabulary=pick("vocab_size"),
        max_tokens=positions - offset,
        type_vocabulary=pick("type_vocab_size", default=0) if family.segment_ids else 0,
        pad_token_id=pad,
    )


def _tensor_names(path: Path) -> set[str]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return {name for name in header if name != "__metadata__"}
