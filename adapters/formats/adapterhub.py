"""AdapterHub's folders: an adapter with its head, a head alone, a token embedding; read and written.

adapter    adapter_config.json, adapter.safetensors [, head_config.json, model_head.safetensors]
head       head_config.json, model_head.safetensors
embedding  embedding.safetensors (the converter makes it from embedding.pt) [, tokenizer/tokenizer.json]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.profile import BackboneProfile
from adapters.architectures.record import Architecture
from adapters.errors import Misfit
from adapters.formats import adapterhub_heads as heads
from adapters.formats import files
from adapters.formats.adapterhub_config import Sizes, read_parts
from adapters.formats.adapterhub_export import write_config
from adapters.formats.adapterhub_keys import PLACES, Key, keys, modern
from adapters.formats.labels import Head
from adapters.formats.native import MATRIX, TOKENIZER
from adapters.manifest import EmbeddingSpec, Manifest, PartSpec, Provenance, Requires
from adapters.weights import Package

LIBRARY = "adapterhub"
ADAPTER, HEAD, EMBEDDING = "adapter.safetensors", "model_head.safetensors", "embedding.safetensors"
WRITTEN_VERSION = "adapters.1.3.0"  # whose layout `write` writes


def read(folder: Path, profile: BackboneProfile, *, name: str | None = None) -> Package:
    """Read a folder for a backbone. `name`: the adapter's name inside its keys, if not that of its configuration.

    Raises `Misfit` with every reason, `UnsafeFile` where weights are pickles, `InvalidPackage` where files are broken.
    """
    if (folder / "adapter_config.json").is_file():
        return _read_adapter(folder, profile, name)
    if (folder / "head_config.json").is_file():
        saved = files.read_json(folder / "head_config.json")
        requires = _requires(saved, profile)
        head = heads.read(saved, files.read_tensors(folder, HEAD))
        manifest = Manifest(
            "head", requires, head=head.spec, provenance=_origin(saved), source=_source({}, saved, head)
        )
        return Package(manifest, head.tensors)
    if files.holds(folder, EMBEDDING):
        return _read_embedding(folder, profile)
    for config, what in {"adapter_fusion_config.json": "a fusion", "adapter_setup.json": "a whole setup"}.items():
        if (folder / config).is_file():
            raise Misfit(
                [f"the folder holds {what}, which is not served yet; its adapters can be published one by one"]
            )
    raise Misfit([f"{folder.name} holds neither an adapter, nor a head, nor an embedding of AdapterHub"])


def write(package: Package, folder: Path, *, name: str = "adapter") -> None:
    """Write AdapterHub's layout; `name` is used where the package did not come from AdapterHub. Raises `Misfit`."""
    manifest = package.manifest
    if manifest.kind not in ("adapter", "head", "embedding"):
        raise Misfit([f"AdapterHub's folders hold no package of kind {manifest.kind!r}"])
    folder.mkdir(parents=True, exist_ok=True)
    if manifest.kind == "embedding":
        files.write_tensors(folder / EMBEDDING, {"embedding": package.tensors[MATRIX]})
        if TOKENIZER in package.tensors:
            (folder / "tokenizer").mkdir(exist_ok=True)
            (folder / "tokenizer" / "tokenizer.json").write_bytes(package.tensors[TOKENIZER].numpy().tobytes())
        return
    if manifest.parts:
        saved = _adapter_config(package, name)
        stored = _to_keys(package, str(saved["name"]))
        files.write_json(folder / "adapter_config.json", saved)
        files.write_tensors(folder / ADAPTER, stored)
        name = str(saved["name"])
    if manifest.head is not None:
        _write_head(package, folder, name)


def _read_adapter(folder: Path, profile: BackboneProfile, name: str | None) -> Package:
    saved = files.read_json(folder / "adapter_config.json")
    requires = _requires(saved, profile)
    geometry = profile.geometry
    parts = read_parts(saved, Sizes(geometry.hidden_size, geometry.embedding_size, geometry.layers))
    called = name if name is not None else str(saved.get("name"))
    family = ARCHITECTURES[geometry.model_type]
    tensors, reasons = _from_keys(files.read_tensors(folder, ADAPTER), parts, called, family, profile)
    head: Head | None = None
    head_saved: dict[str, Any] = {}
    if (folder / "head_config.json").is_file():
        head_saved = files.read_json(folder / "head_config.json")
        try:
            _requires(head_saved, profile)
            head = heads.read(head_saved, files.read_tensors(folder, HEAD))
        except Misfit as misfit:
            reasons += [f"{r} (without head_config.json the adapter can be published alone)" for r in misfit.reasons]
    if reasons:
        raise Misfit(reasons)
    manifest = Manifest(
        kind="adapter",
        requires=requires,
        parts=parts,
        head=None if head is None else head.spec,
        provenance=_origin(saved),
        source=_source(saved, head_saved, head),
    )
    return Package(manifest, tensors | dict({} if head is None else head.tensors))


def _read_embedding(folder: Path, profile: BackboneProfile) -> Package:
    stored = files.read_tensors(folder, EMBEDDING)
    matrix = next(iter(stored.values()), None)
    if matrix is None or len(stored) != 1 or matrix.dim() != 2:
        raise Misfit([f"{EMBEDDING} must hold one matrix [tokens, width]"])
    tensors = {MATRIX: matrix}
    tokenizer = folder / "tokenizer" / "tokenizer.json"
    if tokenizer.is_file():
        tensors[TOKENIZER] = torch.frombuffer(bytearray(tokenizer.read_bytes()), dtype=torch.uint8)
    elif tokenizer.parent.is_dir():
        raise Misfit(["the tokenizer has no tokenizer.json: save it again with a fast tokenizer"])
    spec = EmbeddingSpec(matrix.shape[0], matrix.shape[1], TOKENIZER in tensors)
    geometry = profile.geometry
    requires = Requires(geometry.model_type, geometry.hidden_size, geometry.layers, geometry.heads)
    return Package(Manifest("embedding", requires, embedding=spec, provenance=Provenance(LIBRARY, "")), tensors)


def _requires(saved: Mapping[str, Any], profile: BackboneProfile) -> Requires:
    """What the folder was made for; raises `Misfit` where that is not this backbone, or not one that is served."""
    geometry = profile.geometry
    model_type, hidden = saved.get("model_type"), saved.get("hidden_size")
    reasons = []
    if model_type != geometry.model_type:
        reasons.append(f"it was made for a backbone of type {model_type!r}; this one is {geometry.model_type!r}")
    elif model_type not in ARCHITECTURES or model_type not in PLACES:
        reasons.append(f"AdapterHub's adapters for {model_type!r} are not served yet")
    if hidden != geometry.hidden_size:
        reasons.append(f"it was made for the hidden size {hidden}; this backbone has {geometry.hidden_size}")
    if reasons:
        raise Misfit(reasons)
    return Requires(geometry.model_type, geometry.hidden_size, geometry.layers, geometry.heads)


def _from_keys(
    stored: Mapping[str, Tensor], parts: tuple[PartSpec, ...], name: str, family: Architecture, profile: BackboneProfile
) -> tuple[dict[str, Tensor], list[str]]:
    """(native tensors, every missing, left-over or contradicting key)."""
    prefix = f"{family.prefix}."
    below = {modern(key.removeprefix(prefix)): (key, tensor) for key, tensor in stored.items()}
    reasons = [] if len(below) == len(stored) else ["some tensors are stored with and without the model's prefix"]
    tensors: dict[str, Tensor] = {}
    for key in (key for part in parts for key in keys(part, name, family, profile.geometry.layers)):
        held = [below.pop(stored_as)[1] for stored_as in (key.stored, *key.copies) if stored_as in below]
        if not held:
            reasons.append(f"the checkpoint lacks {key.stored}")
            continue
        if any(not torch.equal(held[0], copy) for copy in held[1:]):
            reasons.append(f"the copies of {key.stored} differ from one another")
        if key.column and held[0].dim() == 2 and held[0].shape[1] == 1:
            held[0] = held[0].reshape(-1)
        tensors[key.native] = held[0]
    reasons += [f"{key} belongs to no part of the adapter {name!r}" for key, _ in below.values()]
    reasons += _narrow(parts, tensors)
    return tensors, reasons


def _narrow(parts: tuple[PartSpec, ...], tensors: Mapping[str, Tensor]) -> list[str]:
    """Bottlenecks whose width is not the one that the reduction factor gives."""
    return [
        f"the reduction factor gives {site} the width {held['width']}, but its tensors have {down.shape[0]}"
        for part in parts
        if part.method == "bottleneck"
        for site, held in part.config["sites"].items()
        if (down := tensors.get(f"{site}/down.weight")) is not None and down.shape[0] != held["width"]
    ]


def _adapter_config(package: Package, name: str) -> dict[str, Any]:
    """The configuration that the package came with, if it still says the same; else one that is made for it."""
    manifest = package.manifest
    config = manifest.source.get("adapter_config")
    if manifest.provenance.library == LIBRARY and isinstance(config, Mapping):
        half = package.tensors.get("model/embed_out/F.0.weight")
        embedding = manifest.requires.hidden_size if half is None else 2 * half.shape[1]
        if (
            read_parts(config, Sizes(manifest.requires.hidden_size, embedding, manifest.requires.layers))
            == manifest.parts
        ):
            return dict(config)
    return _envelope(manifest, name) | {"config": write_config(manifest.parts, manifest.requires)}


def _to_keys(package: Package, name: str) -> dict[str, Tensor]:
    requires = package.manifest.requires
    if requires.model_type not in PLACES or requires.model_type not in ARCHITECTURES:
        raise Misfit([f"AdapterHub's layout for {requires.model_type!r} is not known"])
    family = ARCHITECTURES[requires.model_type]
    table: list[Key] = [key for part in package.manifest.parts for key in keys(part, name, family, requires.layers)]
    adapter = {native for native in package.tensors if not native.startswith("head/")}
    unknown = adapter.symmetric_difference(key.native for key in table)
    if unknown:
        raise Misfit([f"AdapterHub has no place for {native}" for native in sorted(unknown)])
    stored = {f"{family.prefix}.{key.stored}": package.tensors[key.native] for key in table}
    columns = {f"{family.prefix}.{key.stored}" for key in table if key.column}
    return {key: tensor.unsqueeze(1) if key in columns else tensor for key, tensor in stored.items()}


def _write_head(package: Package, folder: Path, name: str) -> None:
    manifest = package.manifest
    assert manifest.head is not None
    saved = manifest.source.get("head_config")
    stored = None
    if manifest.provenance.library == LIBRARY and isinstance(saved, Mapping):
        stored = heads.write_like(saved, manifest.head, package.tensors)
    if stored is None or not isinstance(saved, Mapping):
        members, stored = heads.write(manifest.head, package.tensors, manifest.head.name or name)
        saved = _envelope(manifest, name) | members
    files.write_json(folder / "head_config.json", saved)
    files.write_tensors(folder / HEAD, stored)


def _envelope(manifest: Manifest, name: str) -> dict[str, Any]:
    requires = manifest.requires
    return {
        "hidden_size": requires.hidden_size,
        "model_class": None,
        "model_name": None,
        "model_type": requires.model_type,
        "name": name,
        "version": WRITTEN_VERSION,
    }


def _origin(saved: Mapping[str, Any]) -> Provenance:
    return Provenance(LIBRARY, str(saved.get("version", "")), str(saved.get("model_name") or ""))


def _source(adapter: Mapping[str, Any], head_config: Mapping[str, Any], head: Head | None) -> dict[str, Any]:
    """Both configurations whole, and what to tell the operator."""
    source: dict[str, Any] = {"adapter_config": dict(adapter)} if adapter else {}
    if head is not None:
        source |= {"head_config": dict(head_config), "warnings": list(head.warnings)}
    return source
