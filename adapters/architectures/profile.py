"""The profile of a backbone folder: geometry, digest, and which parts its checkpoint really holds; read without torch.

Every process of the service knows the backbone by this value; only the engine loads the weights.
"""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.architectures.geometry import Geometry, read_geometry
from adapters.errors import UnknownArchitecture


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
    geometry = read_geometry(config)
    family = geometry.architecture
    pooler = f"{family.pooler}.weight"
    held = family.pooler is not None and (pooler in names or f"{family.prefix}.{pooler}" in names)
    return BackboneProfile(folder.absolute().name, f"sha256:{digest.hexdigest()}", geometry, held)


def _tensor_names(path: Path) -> set[str]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return {name for name in header if name != "__metadata__"}
