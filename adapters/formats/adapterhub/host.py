"""The backbone that a configuration leaves unsaid, and how a configuration says which of its layers it adapts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.geometry import Geometry
from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.requires import Requires


@dataclass(frozen=True)
class Host:
    """A family's record (with the paths that AdapterHub's keys have), and the sizes of a model: widths of the layers and of the word vectors, and layer modules."""

    family: Architecture
    hidden_size: int
    embedding_size: int
    layers: int

    @property
    def numbered(self) -> int | None:
        """A configuration may name layers that there are not: AdapterHub goes through those that there are."""
        return None

    @property
    def crossing(self) -> range:
        """The layers that attend to an encoder's states."""
        return self.family.crossing(self.layers)

    @property
    def feed_forward(self) -> Mapping[str, str]:
        """Site by member of LoRA configurations."""
        return self.family.hub_feed_forward


def host_of(geometry: Geometry) -> Host:
    """The host that a backbone is."""
    return Host(geometry.architecture.formerly, geometry.hidden_size, geometry.embedding_size, geometry.layers)


def host_for(requires: Requires, embedding: int, inner: int = 1) -> Host:
    """The host that a package was made for, with so many layers in a group; raises `Misfit` for an unknown family."""
    family = ARCHITECTURES.get(requires.model_type)
    if family is None:
        raise Misfit([f"AdapterHub's layout for {requires.model_type!r} is not known"])
    family = family.split(requires.encoder_layers, gated=requires.gated) if family.decoder else family.grouped(inner)
    return Host(family.formerly, requires.hidden_size, embedding, requires.layers)


def left_out(layers: set[int], host: Host) -> list[int]:
    """The member `leave_out` of a configuration that adapts just these layers."""
    return [layer for layer in range(host.layers) if layer not in layers]


def grid(sites: Mapping[str, Any], host: Host) -> tuple[set[str], list[int]]:
    """(sites of every adapted layer, `leave_out`); raises `Misfit` where layers differ in their sites.

    Cross sites are those of the layers alone that attend to an encoder's states.
    """
    layers: dict[int | None, set[str]] = {}
    for text in sites:
        address = Address.parse(text)
        layers.setdefault(address.layer, set()).add(address.site)
    crossed = [{site for site in layers[i] if site.startswith("cross_")} for i in layers if i in host.crossing]
    kinds = [{site for site in held if not site.startswith("cross_")} for held in layers.values()]
    if None in layers or not kinds or any(k != kinds[0] for k in kinds) or any(k != crossed[0] for k in crossed):
        raise Misfit(["AdapterHub adapts the same modules in every layer that it does not leave out"])
    return kinds[0].union(*crossed[:1]), left_out({layer for layer in layers if layer is not None}, host)
