"""Which modules of the backbone a package acts on, and which it leaves as they are, by their dotted paths."""

from collections.abc import Mapping, Sequence

from adapters.architectures.geometry import Geometry
from adapters.architectures.record import Architecture
from adapters.architectures.sites import SITES, TABLES, Address, SiteKind
from adapters.weights import Adapter

_EMBEDDINGS = Address(None, "embed_out")
_ORDER = list(SITES)


def matched(adapter: Adapter | None, geometry: Geometry) -> Mapping[str, Sequence[str]]:
    """Kind of site -> modules, from the bottom up; None is a vocabulary, which acts on the embeddings alone."""
    addresses = {_EMBEDDINGS} if adapter is None else set(adapter.blocks)
    found: dict[str, list[str]] = {}
    for address in sorted(addresses, key=_height):
        held, module = found.setdefault(SITES[address.site].value, []), _module(geometry.architecture, address)
        if module not in held:  # both stacks of an encoder-decoder look words up in one table
            held.append(module)
    return found


def untouched(touched: Mapping[str, Sequence[str]], geometry: Geometry) -> list[str]:
    """Every module at which an adapter may act, but for those that this one does."""
    architecture, known = geometry.architecture, {module for modules in touched.values() for module in modules}
    shared = [Address(None, site) for site, kind in SITES.items() if kind is SiteKind.ATTENTION_KV]
    absent = [Address(None, table) for table in TABLES if not geometry.rows(table)]
    addresses = [a for a in architecture.addresses(geometry.layers) if a not in (*shared, *absent)]
    every = dict.fromkeys(_module(architecture, address) for address in sorted(addresses, key=_height))
    return [module for module in every if module not in known]


def _height(address: Address) -> tuple[float, int]:
    bottom = -1.0 if address == _EMBEDDINGS else float("inf")
    return (bottom if address.layer is None else address.layer, _ORDER.index(address.site))


def _module(architecture: Architecture, address: Address) -> str:
    """A linear map; what computes the attention; a norm, or the one in which a sublayer meets its residual; a layer."""
    kind = SITES[address.site]
    if kind is SiteKind.LINEAR:
        return architecture.linear_path(address)
    if kind is SiteKind.NORM:
        return architecture.own_norm_path(address)
    if address.layer is None:
        return architecture.embeddings or architecture.words or ""
    if kind is SiteKind.ATTENTION_KV:
        return architecture.attention_path(address)
    layer = architecture.layer_path(address.layer)
    if kind is SiteKind.JUNCTION:
        junction = architecture.stack(address.layer).junctions[address.site]
        return f"{layer}.{junction.norm if junction.adds and junction.norm else junction.sublayer}"
    return layer
