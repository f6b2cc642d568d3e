"""Prefix tuning: one set of parameters for the model, of which every layer holds a copy, and a gate in every layer."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.formats.adapterhub.host import Host, left_out
from adapters.formats.adapterhub.keys import Key, pair
from adapters.formats.adapterhub.wording import Layout, Wording
from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.presets import PREFIX_CONFIG
from adapters.methods.settings import Settings

_MLP = ("wte.weight", *(f"control_trans.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")))


def read(settings: Settings, host: Host) -> Iterator[PartSpec]:
    """The part."""
    if host.family.hub_prefix is None:
        settings.wrong(f"AdapterHub has no prefix tuning for {host.family.model_type!r}")
    yield from parts.prefix(settings, host)


def keys(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """The one set, with its copies in the pool of every layer, and each layer's own gate."""
    attention = {i: f"{host.family.layer_path(i)}.{host.family.attention}.prefix_tuning" for i in range(host.layers)}
    tail = f"prefix_tunings.{name}.{host.family.hub_prefix}"
    for parameter in ("control_trans",) if config["flat"] else _MLP:
        copies = tuple(f"{module}.pool.{tail}.{parameter}" for module in attention.values())
        yield Key(f"prefix_tuning.{tail}.{parameter}", (f"model/attn_kv/{parameter}",), copies)
    if config.get("gating", "none") != "none":
        for layer in config["layers"]:
            yield from pair(f"{layer}/attn_kv/gate", f"{attention[layer]}.prefix_gates.{name}")


def write(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    gating = config.get("gating", "none")
    return {
        "architecture": "prefix_tuning",
        "flat": config["flat"],
        "prefix_length": config["length"],
        "bottleneck_size": config.get("bottleneck") or 512,
        "non_linearity": config.get("non_linearity", "tanh"),
        "use_gating": gating != "none",
        "shared_gating": gating != "separate",
        "leave_out": left_out(set(config["layers"]), host),
        "encoder_prefix": True,
        "cross_prefix": True,
        "dropout": 0.0,
    }


WORDING = Wording(
    "prefix tuning",
    ("flat", "prefix_length", "bottleneck_size", "non_linearity"),
    PREFIX_CONFIG,
    ("encoder_prefix", "cross_prefix", "dropout", "init_weights_seed"),
    read,
)
LAYOUT = Layout(keys, write)
