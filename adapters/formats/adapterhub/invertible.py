"""Invertible adapters, which AdapterHub keeps in the configuration of a bottleneck."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.errors import Misfit
from adapters.formats.adapterhub.bottleneck import factor
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key, pair


def respelled(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a bottleneck whose invertible adapter is not nested, as it was in 1.x."""
    old = config.get("invertible_adapter")
    if not isinstance(old, Mapping):
        return config
    kind, reduction = old.get("block_type"), old.get("reduction_factor", 2)
    kept = {key: value for key, value in config.items() if key != "invertible_adapter"}
    return {**kept, "inv_adapter": kind, "inv_adapter_reduction_factor": reduction}


def keys(_: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """Both nets, each two linear maps; an encoder-decoder's encoder holds them."""
    holder = "encoder." if host.crossing else ""
    for net in (f"{letter}.{i}" for letter in "FG" for i in (0, 2)):
        yield from pair(f"model/embed_out/{net}", f"{holder}invertible_adapters.{name}.{net}")


def add(config: Mapping[str, Any], bottleneck: dict[str, Any] | None, host: Host) -> dict[str, Any]:
    """The configuration of a bottleneck (None: of none) with the invertible adapter in it; raises `Misfit`."""
    carrier = bottleneck or {
        "mh_adapter": False,
        "output_adapter": False,
        "reduction_factor": 16,
        "non_linearity": config["non_linearity"],
    }
    if carrier["non_linearity"] != config["non_linearity"]:
        raise Misfit(["AdapterHub has one activation for a bottleneck and its invertible adapter"])
    reduction = factor(host.embedding_size // 2, config["width"])
    return {**carrier, "inv_adapter": "nice", "inv_adapter_reduction_factor": reduction}
