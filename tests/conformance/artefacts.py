"""The library's public path from a source library's folder to a package: read or convert, write, read again, check."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters import composition
from adapters.architectures.profile import BackboneProfile
from adapters.embeddings import TokenEmbedding, token_embedding
from adapters.errors import UnsafeFile
from adapters.formats import check, converter, native, recognise
from adapters.manifest import Manifest
from adapters.refs import AdapterRef, Reference
from adapters.weights import Package


@dataclass(frozen=True, eq=False)
class Shelf:
    """Reads artefacts for one backbone. `scratch` holds what is converted and written on the way."""

    profile: BackboneProfile
    scratch: Path

    def read(self, folder: Path) -> Package:
        """A folder as a checked package that went through the native format; raises `AdapterError`."""
        try:
            package = recognise.read(folder, self.profile)
        except UnsafeFile:
            package = recognise.read(converter.convert(folder, self._place()), self.profile)
        path = self._place() / "package.safetensors"
        path.write_bytes(native.write(package))
        package = native.read(path)
        check.check(package, self.profile)
        return package

    def embedding(self, folder: Path) -> TokenEmbedding:
        """A folder as a vocabulary with its matrix."""
        return token_embedding(self.read(folder), torch.float32)

    def _place(self) -> Path:
        place = self.scratch / str(sum(1 for _ in self.scratch.iterdir()))
        place.mkdir()
        return place


def members(arrangement: Any, skip_layers: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the adapters of a case's composition, bottom first; raises what the library raises.

    The case's own names need not fit our grammar, so numbered ones stand in for them on the way.
    """
    if arrangement is None:
        return ()
    names: dict[str, str] = {}
    value = _renamed(arrangement, names)
    if skip_layers:
        value = {**(value if isinstance(value, Mapping) else {"stack": [value]}), "skip_layers": list(skip_layers)}
    back = {alias: name for name, alias in names.items()}
    return tuple(back[_name(leaf.ref)] for leaf in composition.runnable_stack(composition.parse(value)))


def gated(manifest: Manifest) -> bool:
    """Whether a gate is anywhere in an adapter's configuration."""
    return _holds_gate(manifest.source) or any(_holds_gate(part.config) for part in manifest.parts)


def _holds_gate(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value.get("use_gating")) or any(_holds_gate(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_holds_gate(item) for item in value)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return names.setdefault(value, f"n{len(names)}")
    if isinstance(value, Mapping):
        renamed = value.keys() & (composition.BLOCKS.keys() | {"name"})
        return {key: _renamed(item, names) if key in renamed else item for key, item in value.items()}
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value


def _name(ref: Reference | AdapterRef) -> str:
    return ref.name
