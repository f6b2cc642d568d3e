"""AdapterHub's folders: an adapter with its head, a fusion, a head alone, a vocabulary; read and written.

adapter    adapter_config.json, adapter.safetensors [, head_config.json, model_head.safetensors]
fusion     adapter_fusion_config.json, model_adapter_fusion.safetensors
head       head_config.json, model_head.safetensors
embedding  embedding.safetensors (the converter makes it from embedding.pt), written as both [, tokenizer/tokenizer.json]

A whole setup (adapter_setup.json, and a folder for each of its members) is read by `setup`.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from adapters.architectures.families import architecture_of
from adapters.architectures.profile import BackboneProfile
from adapters.errors import InvalidPackage, Misfit
from adapters.formats import check, files
from adapters.formats.adapterhub import embedding, fusion, heads, interfaces, parts
from adapters.formats.adapterhub.envelope import LIBRARY, envelope, origin, requires
from adapters.formats.adapterhub.host import Host, host_for, host_of
from adapters.formats.adapterhub.keys import Taken, take
from adapters.formats.labels import Head
from adapters.manifest import Manifest, PartSpec
from adapters.weights import Package

ADAPTER, HEAD, EMBEDDING = "adapter.safetensors", "model_head.safetensors", embedding.FILE
FUSION = "model_adapter_fusion.safetensors"
ADAPTER_CONFIG, HEAD_CONFIG = "adapter_config.json", "head_config.json"
FUSION_CONFIG, SETUP_CONFIG = "adapter_fusion_config.json", "adapter_setup.json"
_FILES = {"adapter": (ADAPTER_CONFIG, ADAPTER), "fusion": (FUSION_CONFIG, FUSION)}
_UNSHARED = (
    "a base model's own save leaves out what modules share: save the adapter from a model with a head "
    "(AutoAdapterModel), which keeps it"
)
_NATIVE = "AdapterHub's layout can not hold this: keep it as a native package"


def read(folder: Path, profile: BackboneProfile, *, name: str | None = None) -> Package:
    """Read a folder for a backbone. `name`: the adapter's name inside its keys, if not that of its configuration.

    Raises `Misfit` with every reason, `UnsafeFile` where weights are pickles, `InvalidPackage` where files are broken.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        return _read_adapter(folder, profile, name)
    if (folder / FUSION_CONFIG).is_file():
        return _read_fusion(folder, profile, name)
    if (folder / HEAD_CONFIG).is_file():
        saved = files.read_json(folder / HEAD_CONFIG)
        needs = requires(saved, profile)
        head = heads.read(saved, files.read_tensors(folder, HEAD), profile.geometry)
        source = {"head_config": saved, "warnings": list(head.warnings)}
        return Package(Manifest("head", needs, head=head.spec, provenance=origin(saved), source=source), head.tensors)
    if files.holds(folder, EMBEDDING):
        return embedding.read(folder, profile)
    if (folder / SETUP_CONFIG).is_file():
        raise Misfit(["the folder holds a whole setup, which is no package: `chorus push` publishes it as a target"])
    raise Misfit([f"{folder.name} holds neither an adapter, nor a fusion, nor a head, nor an embedding of AdapterHub"])


def write(package: Package, folder: Path, *, name: str = "adapter") -> None:
    """Write AdapterHub's layout; `name` is used where the package did not come from AdapterHub. Raises `Misfit`.

    An adapter or fusion replaces the one in the folder, and the head that came with it; what else is there stays.
    """
    manifest, head = package.manifest, None
    if manifest.kind not in (*_FILES, "head", "embedding"):
        raise Misfit([f"AdapterHub's folders hold no package of kind {manifest.kind!r}"])
    if manifest.route is not None:
        raise Misfit(["AdapterHub has no replicated layers; PEFT's folders hold them"])
    saved, stored = _words(package, name, f"{manifest.kind}_config") if manifest.parts else ({"name": name}, {})
    if manifest.head is not None:
        head = _head_words(package, str(saved.get("name")))
    folder.mkdir(parents=True, exist_ok=True)
    if manifest.parts:
        config, weights = _FILES[manifest.kind]
        _drop_head(folder, config, str(saved.get("name")))
        files.write_json(folder / config, saved)
        files.write_tensors(folder / weights, stored)
    if manifest.kind == "adapter":
        _write_interface(manifest, folder)
    if manifest.kind == "embedding":
        embedding.write(package, folder)
    if head is not None:
        files.write_json(folder / HEAD_CONFIG, head[0])
        files.write_tensors(folder / HEAD, head[1])


def _read_adapter(folder: Path, profile: BackboneProfile, name: str | None) -> Package:
    saved = files.read_json(folder / ADAPTER_CONFIG)
    needs, host = requires(saved, profile), host_of(profile.geometry)
    called = name if name is not None else str(saved.get("name"))
    specs, taken, reasons = _read_parts(folder, saved, called, host)
    source: dict[str, Any] = {"adapter_config": saved, **_groups(host)}
    if (folder / interfaces.FILE).is_file():
        source["adapter_interface"] = files.read_json(folder / interfaces.FILE)
        reasons += interfaces.contradictions(source["adapter_interface"], needs.model_type)
    head: Head | None = None
    if (folder / HEAD_CONFIG).is_file():
        source["head_config"] = files.read_json(folder / HEAD_CONFIG)
        try:
            requires(source["head_config"], profile)
            head = heads.read(source["head_config"], files.read_tensors(folder, HEAD), profile.geometry)
        except Misfit as misfit:
            reasons += [f"{r} (without head_config.json the adapter can be published alone)" for r in misfit.reasons]
    warnings = list(() if head is None else head.warnings)
    if not reasons:
        warnings = parts.warnings(saved) + warnings
    if warnings or head is not None:
        source["warnings"] = warnings
    spec = None if head is None else head.spec
    manifest = Manifest("adapter", needs, specs, spec, provenance=origin(saved), source=source)
    package = Package(manifest, dict(taken) | dict({} if head is None else head.tensors))
    if reasons:
        raise Misfit(reasons + (check.misshapen(package, profile) if specs else []))
    return package


def _read_parts(
    folder: Path, saved: Mapping[str, Any], name: str, host: Host
) -> tuple[tuple[PartSpec, ...], Mapping[str, Tensor], list[str]]:
    """(parts, tensors, every reason against them)."""
    stored = files.read_tensors(folder, ADAPTER)
    try:
        specs = parts.read_parts(saved, host)
    except Misfit as misfit:
        return (), {}, list(misfit.reasons)
    specs = parts.without_unused_inverse(specs, saved, stored)
    taken = take(stored, parts.keys(specs, name, host), host.family.prefix)
    reasons = _lacks(taken) + [f"{key} belongs to no part of the adapter {name!r}" for key in taken.rest.values()]
    return specs, taken.tensors, reasons + _narrow(specs, taken.tensors)


def _read_fusion(folder: Path, profile: BackboneProfile, name: str | None) -> Package:
    saved = files.read_json(folder / FUSION_CONFIG)
    needs, host = requires(saved, profile), host_of(profile.geometry)
    called = name if name is not None else str(saved.get("name"))
    stored = files.read_tensors(folder, FUSION)
    part, children = fusion.read(saved, called, stored, host), fusion.children(saved, called)
    taken = take(stored, parts.keys((part,), called, host), host.family.prefix)
    others = fusion.strangers(taken.rest, called)
    left = [key for name, key in taken.rest.items() if name not in others]
    reasons = _lacks(taken) + [f"{key} belongs to no part of the fusion {called!r}" for key in left]
    source: dict[str, Any] = {"fusion_config": saved, **_groups(host)}
    if others:
        source["warnings"] = [
            f"the checkpoint holds {len(others)} tensors of other fusions as well, which are left out"
        ]
    manifest = Manifest("fusion", needs, (part,), children=children, provenance=origin(saved), source=source)
    package = Package(manifest, taken.tensors)
    if reasons:
        raise Misfit(reasons + check.misshapen(package, profile))
    return package


def _groups(host: Host) -> dict[str, int]:
    """What keys depend on beside the number of layers, where it is not as usual (ALBERT)."""
    return {} if host.family.inner == 1 else {"inner_layers": host.family.inner}


def _lacks(taken: Taken) -> list[str]:
    reasons = [f"the checkpoint lacks {key}" for key in taken.missing] + list(taken.faults)
    return reasons + ([_UNSHARED] if any(key.startswith("shared_parameters.") for key in taken.missing) else [])


def _narrow(specs: tuple[PartSpec, ...], tensors: Mapping[str, Tensor]) -> list[str]:
    """Bottlenecks whose width is not the one that the reduction factor gives."""
    return [
        f"the reduction factor gives {site} the width {held['width']}, but its tensors have {down.shape[0]}"
        for part in specs
        if part.method == "bottleneck"
        for site, held in part.config["sites"].items()
        if (down := tensors.get(f"{site}/down.weight")) is not None and down.shape[0] != held["width"]
    ]


def _words(package: Package, name: str, member: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, tensors by key) of an adapter or a fusion.

    The configuration is the one that the package came with, if it still says the same; else one that is made for it.
    Raises `Misfit` where AdapterHub would compute something else, or what is made could not be read again.
    """
    manifest = package.manifest
    refused = parts.unwritable(manifest.parts)
    if refused:
        raise Misfit(refused)
    half = package.tensors.get("model/embed_out/F.0.weight")
    width = manifest.requires.hidden_size if half is None else 2 * half.shape[1]
    inner = manifest.source.get("inner_layers")
    host = host_for(manifest.requires, width, inner if isinstance(inner, int) and inner > 0 else 1)
    saved = manifest.source.get(member)
    if manifest.provenance.library == LIBRARY and isinstance(saved, Mapping):
        called = str(saved.get("name"))
        stored = _to_keys(package, called, host)
        with suppress(Misfit):
            if _says(saved, called, stored, host) == (manifest.parts, manifest.children):
                return dict(saved), stored
    config = parts.write_config(manifest.parts, host)
    made, stored = envelope(manifest, name) | {"config": config}, _to_keys(package, name, host)
    if manifest.kind == "fusion":
        made["adapter_names"] = list(manifest.children)
    try:
        specs, children = _says(made, name, stored, host)
    except Misfit as misfit:
        raise Misfit([*misfit.reasons, _NATIVE]) from misfit
    # Native parts may spell out defaults, so what is compared is their wording.
    if (parts.write_config(specs, host), children) != (config, manifest.children):
        raise Misfit(["the configuration would read as something else", _NATIVE])
    return made, stored


def _says(
    saved: Mapping[str, Any], name: str, stored: Mapping[str, Tensor], host: Host
) -> tuple[tuple[PartSpec, ...], tuple[str, ...]]:
    """(parts, children) that a configuration says; raises `Misfit`."""
    if "adapter_names" in saved:
        return (fusion.read(saved, name, stored, host),), fusion.children(saved, name)
    return parts.read_parts(saved, host), ()


def _to_keys(package: Package, name: str, host: Host) -> dict[str, Tensor]:
    table = list(parts.keys(package.manifest.parts, name, host))
    adapter = {native for native in package.tensors if not native.startswith("head/")}
    unknown = adapter.symmetric_difference(native for key in table for native in key.natives)
    if unknown:
        raise Misfit([f"AdapterHub has no place for {native}" for native in sorted(unknown)])
    prefix = "" if host.family.model_type in interfaces.INTERFACES else f"{host.family.prefix}."
    return {f"{prefix}{key.stored}": key.pack(package.tensors) for key in table}


def _drop_head(folder: Path, config: str, name: str) -> None:
    """Remove the head that came with what is replaced: one of its name, of the older one's, or of a class's own (none).

    A head of another name was put there for itself, as AdapterHub's `save_head` does.
    """
    names = {name, _name_in(folder / config), None} if (folder / config).is_file() else {name}
    if (folder / HEAD_CONFIG).is_file() and _name_in(folder / HEAD_CONFIG) in names:
        (folder / HEAD_CONFIG).unlink()
        files.remove_tensors(folder, HEAD)


def _name_in(config: Path) -> str | None:
    """The name in a configuration; None in a torn one, too, which is to be replaced."""
    with suppress(InvalidPackage):
        name = files.read_json(config).get("name")
        return None if name is None else str(name)
    return None


def _write_interface(manifest: Manifest, folder: Path) -> None:
    interface = manifest.source.get("adapter_interface") or interfaces.interface(manifest.requires.model_type)
    if interface is None:
        (folder / interfaces.FILE).unlink(missing_ok=True)
    else:
        files.write_json(folder / interfaces.FILE, interface)


def _head_words(package: Package, name: str) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """(configuration, tensors by key) of a head: as it came, if that still says the same; raises `Misfit`."""
    manifest = package.manifest
    assert manifest.head is not None
    saved = manifest.source.get("head_config")
    if manifest.provenance.library == LIBRARY and isinstance(saved, Mapping):
        stored = heads.write_like(saved, manifest.head, package.tensors)
        if stored is not None:
            return saved, stored
    members, stored = heads.write(
        manifest.head, package.tensors, manifest.head.name or name, architecture_of(manifest.requires.model_type)
    )
    return envelope(manifest, name) | members, stored
