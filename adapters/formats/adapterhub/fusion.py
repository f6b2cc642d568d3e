"""AdapterFusion's folders: which adapters are fused, and the attention over them at every place where they sit.

The configuration does not say the places: they are those that the checkpoint has tensors for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key, modern, pair
from adapters.formats.adapterhub.wording import Layout, settings_of
from adapters.manifest import PartSpec
from adapters.methods.fusion import Variant

SETTINGS = tuple(field.name for field in fields(Variant))
_TRAINING = ("regularization", "value_initialized", "dropout_prob")
_LAYER = "adapter_fusion_layer"


def read(saved: Mapping[str, Any], name: str, stored: Mapping[str, Tensor], host: Host) -> PartSpec:
    """The part of a whole `adapter_fusion_config.json`; raises `Misfit` with every reason."""
    config = saved.get("config")
    if not isinstance(config, Mapping):
        raise Misfit(["adapter_fusion_config.json has no 'config' object"])
    if missing := [key for key in SETTINGS if key not in config]:
        raise Misfit([f"the fusion configuration lacks {', '.join(missing)}"])
    settings = settings_of("fusion", {"temperature": False, **config}, (*SETTINGS, "temperature", *_TRAINING))
    members = {key: settings.flag(key) for key in SETTINGS}
    if settings.flag("temperature"):
        settings.wrong("temperature=true can not be served: it depends on how often a fusion was called before")
    if not any(config[key] for key in ("query", "key", "value")):
        settings.wrong("without query, key and value it has no parameters, and can not be told from another one")
    sites = _sites(stored, name, host)
    if not sites:
        settings.wrong(f"the checkpoint holds no fusion {name!r} at any place of this backbone")
    settings.done()
    return PartSpec("fusion", {"sites": sites, **members})


def children(saved: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Names of the fused adapters; older configurations have them in the fusion's name only. Raises `Misfit`."""
    said = saved.get("adapter_names")
    names = name.split(",") if said is None else said
    texts = isinstance(names, list) and all(isinstance(child, str) and child for child in names)
    if not texts or not names or len(set(names)) != len(names):
        raise Misfit([f"adapter_names must be a list of the fused adapters' names, each once, not {names!r}"])
    return tuple(names)


def strangers(rest: Mapping[str, str], name: str) -> set[str]:
    """Left-over tensors that are another fusion's: the library saves all whose names start with this one's."""
    return {modern_name for modern_name in rest if f"{_LAYER}.{name}" in modern_name and f".{name}." not in modern_name}


def keys(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """Query and key with biases, the value without."""
    for text in config["sites"]:
        stem = f"{_module(Address.parse(text), host)}.{name}"
        for part in ("query", "key"):
            if config[part]:
                yield from pair(f"{text}/{part}", f"{stem}.{part}")
        if config["value"]:
            yield Key(f"{stem}.value.weight", (f"{text}/value.weight",))


def write(config: Mapping[str, Any], _: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    training = {"dropout_prob": None, "regularization": False, "value_initialized": False}
    return {**{key: config[key] for key in SETTINGS}, "temperature": False, **training}


def _sites(stored: Mapping[str, Tensor], name: str, host: Host) -> dict[str, dict[str, Any]]:
    present = [modern(key.removeprefix(f"{host.family.prefix}.")) for key in stored]
    layers = [(layer, host.family.stack(layer)) for layer in range(host.layers)]
    addresses = [Address(layer, site) for layer, stack in layers for site in stack.hub_bottlenecks]
    return {
        str(address): {}
        for address in addresses
        if any(key.startswith(f"{_module(address, host)}.{name}.") for key in present)
    }


def _module(address: Address, host: Host) -> str:
    assert address.layer is not None
    held = host.family.stack(address.layer).hub_bottlenecks[address.site]
    return f"{host.family.layer_path(address.layer)}.{held}.{_LAYER}"


LAYOUT = Layout(keys, write)
