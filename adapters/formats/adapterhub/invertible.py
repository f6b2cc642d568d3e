"""Invertible adapters, which AdapterHub keeps in the configuration of a bottleneck."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.errors import Misfit
from adapters.formats.adapterhub.bottleneck import factor
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key, pair
from adapters.manifest import PartSpec

SETTINGS = ("inv_adapter", "inv_adapter_reduction_factor", "invertible_adapter")


def read(config: Mapping[str, Any], host: Host) -> Iterator[PartSpec]:
    """The part, if the bottleneck's configuration has one."""
    kind, reduction = _kind(config)
    if kind is None:
        return
    if kind != "nice":
        raise Misfit([f"the invertible adapter {kind!r} can not run in AdapterHub either; only 'nice' is served"])
    members = {"kind": "nice", "non_linearity": str(config["non_linearity"]).lower()}
    yield PartSpec("invertible", {**members, "width": int(host.embedding // 2 // reduction)})


def keys(_: Mapping[str, Any], name: str, __: Host) -> Iterator[Key]:
    """Both nets, each two linear maps."""
    for net in (f"{letter}.{i}" for letter in "FG" for i in (0, 2)):
        yield from pair(f"model/embed_out/{net}", f"invertible_adapters.{name}.{net}")


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
    reduction = factor(host.embedding // 2, config["width"])
    return {**carrier, "inv_adapter": "nice", "inv_adapter_reduction_factor": reduction}


def _kind(config: Mapping[str, Any]) -> tuple[Any, float]:
    """Kind and reduction factor; 1.x nested them."""
    old = config.get("invertible_adapter")
    if isinstance(old, Mapping):
        return old.get("block_type"), old.get("reduction_factor", 2)
    return config.get("inv_adapter") or None, config.get("inv_adapter_reduction_factor") or 2
