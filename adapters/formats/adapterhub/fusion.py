"""AdapterFusion's folders: which adapters are fused, and the attention over them at every place where they sit.

The configuration does not say the places: they are those that the checkpoint has tensors for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key, modern, pair
from adapters.formats.adapterhub.wording import Layout
from adapters.manifest import PartSpec

SETTINGS = ("query", "key", "value", "query_before_ln", "residual_before", "value_before_softmax")
_LAYER = "adapter_fusion_layer"


def read(saved: Mapping[str, Any], name: str, stored: Mapping[str, Tensor], host: Host) -> PartSpec:
    """The part of a whole `adapter_fusion_config.json`; raises `Misfit` with every reason."""
    config = saved.get("config")
    if not isinstance(config, Mapping):
        raise Misfit(["adapter_fusion_config.json has no 'config' object"])
    reasons = [f"the fusion configuration lacks {key}" for key in SETTINGS if key not in config]
    if config.get("temperature"):
        reasons.append("temperature=true can not be served: what it computes depends on how often it was called before")
    if not any(config.get(key) for key in ("query", "key", "value")):
        reasons.append("a fusion without query, key and value has no parameters; it can not be told from another one")
    sites = _sites(stored, name, host)
    if not sites:
        reasons.append(f"the checkpoint holds no fusion {name!r} at any place of this backbone")
    if reasons:
        raise Misfit(reasons)
    return PartSpec("fusion", {"sites": sites, **{key: bool(config[key]) for key in SETTINGS}})


def children(saved: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Names of the fused adapters; older configurations have them in the fusion's name only. Raises `Misfit`."""
    names = saved.get("adapter_names") or name.split(",")
    if not isinstance(names, list) or len(names) < 1 or not all(isinstance(n, str) and n for n in names):
        raise Misfit([f"adapter_names must be the names of the fused adapters, not {names!r}"])
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
    addresses = [Address(layer, site) for layer in range(host.layers) for site in host.family.hub_bottlenecks]
    return {
        str(address): {}
        for address in addresses
        if any(key.startswith(f"{_module(address, host)}.{name}.") for key in present)
    }


def _module(address: Address, host: Host) -> str:
    assert address.layer is not None
    return f"{host.family.layer_path(address.layer)}.{host.family.hub_bottlenecks[address.site]}.{_LAYER}"


LAYOUT = Layout(keys, write)
