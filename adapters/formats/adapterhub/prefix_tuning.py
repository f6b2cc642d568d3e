"""Prefix tuning: one set of parameters for the model, of which every layer holds a copy, and a gate in every layer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host, left_out
from adapters.formats.adapterhub.keys import Key, pair
from adapters.formats.adapterhub.wording import Layout, Wording
from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.prefix_tuning import CROSS, DECODER, SHARED, shared_address
from adapters.methods.presets import PREFIX_CONFIG
from adapters.methods.settings import Settings

_MLP = ("wte.weight", *(f"control_trans.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")))


_PLACES: Mapping[Address, str] = {DECODER: "self_prefix", CROSS: "cross_prefix"}


def read(settings: Settings, host: Host) -> Iterator[PartSpec]:
    """The part."""
    if host.family.hub_prefix is None:
        settings.wrong(f"AdapterHub has no prefix tuning for {host.family.model_type!r}")
    yield from parts.prefix(settings, host)


def keys(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """The one set, with its copies in the pool of every layer, and each layer's own gate."""
    site, family = config.get("site", "attn_kv"), host.family
    everywhere = [Address(i, "attn_kv") for i in range(host.layers)] + [Address(i, "cross_kv") for i in host.crossing]
    attention = {address: f"{family.attention_path(address)}.prefix_tuning" for address in everywhere}
    shared = shared_address(site, config["layers"], family.encoder_layers)
    tail = f"prefix_tunings.{name}.{_PLACES.get(shared, family.hub_prefix)}"
    for parameter in ("control_trans",) if config["flat"] else _MLP:
        copies = tuple(f"{module}.pool.{tail}.{parameter}" for module in attention.values())
        yield Key(f"prefix_tuning.{tail}.{parameter}", (f"{shared}/{parameter}",), copies)
    if config.get("gating", "none") != "none":
        for address in (Address(layer, site) for layer in config["layers"]):
            yield from pair(f"{address}/gate", f"{attention[address]}.prefix_gates.{name}")


def write_together(configs: Sequence[Mapping[str, Any]], host: Host) -> dict[str, Any]:
    """One configuration for the prefixes of an encoder-decoder's three attentions; raises `Misfit` where it has none."""
    places = {shared_address(c.get("site", "attn_kv"), c["layers"], host.family.encoder_layers): c for c in configs}
    own = places.get(DECODER)
    same = [{key: value for key, value in config.items() if key not in ("layers", "site")} for config in configs]
    if len(places) < len(configs) or own is None or any(one != same[0] for one in same):
        raise Misfit(["AdapterHub has one prefix for a decoder, and beside it equal ones for its other attentions"])
    if CROSS in places and list(places[CROSS]["layers"]) != list(own["layers"]):
        raise Misfit(["AdapterHub's prefixes of a decoder are in the same layers for both of its attentions"])
    held = {layer for config in configs for layer in config["layers"]}
    members = {"leave_out": left_out(held if SHARED in places else held | set(range(host.family.encoder_layers)), host)}
    return {**write(own, host), **members, "encoder_prefix": SHARED in places, "cross_prefix": CROSS in places}


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
    ("dropout", "init_weights_seed"),
    read,
)
LAYOUT = Layout(keys, write)
