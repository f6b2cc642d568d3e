"""What a record of a model family says: dotted paths from the base model to its sites. Data, no code, no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapters.architectures.sites import SITES, Address, SiteKind


@dataclass(frozen=True)
class Junction:
    """Where a sublayer's output meets its residual; paths are relative to the layer.

    `sublayer`: the module whose output is f. `residual`: the module whose first input is r. `norm`: the module that
    computes norm(f + r).
    """

    sublayer: str
    residual: str
    norm: str


@dataclass(frozen=True)
class Architecture:
    """One family's map of sites. Paths inside a layer are relative to `layer`, which holds `{layer}`."""

    model_type: str
    prefix: str  # what a checkpoint saved from a model with a head puts before every key, without the dot
    layer: str
    embeddings: str
    linear: Mapping[str, str]  # site -> path in the layer
    attention: str  # the module that calls the attention interface
    junctions: Mapping[str, Junction]
    pooler: str | None  # path of the pooler's linear map
    segment_ids: bool
    positions_after_pad: bool  # RoBERTa: positions count from pad_token_id + 1, over ids that are not the pad id
    packed: bool = True  # rows may run without padding

    def layer_path(self, layer: int) -> str:
        """Dotted path of one layer."""
        return self.layer.format(layer=layer)

    def linear_path(self, address: Address) -> str:
        """Dotted path of the linear map at an address; raises `KeyError` where the family has none."""
        if address.layer is None:
            if address.site != "pooler" or self.pooler is None:
                raise KeyError(str(address))
            return self.pooler
        return f"{self.layer_path(address.layer)}.{self.linear[address.site]}"

    def addresses(self, layers: int) -> Iterator[Address]:
        """Every address at which an adapter may act in a model of so many layers."""
        for site, kind in SITES.items():
            if site == "embed_out":
                yield Address(None, site)
            elif site == "pooler":
                if self.pooler is not None:
                    yield Address(None, site)
            elif kind is SiteKind.ATTENTION_KV:
                yield Address(None, site)
                yield from (Address(layer, site) for layer in range(layers))
            elif site in self.linear or site in self.junctions:
                yield from (Address(layer, site) for layer in range(layers))

    def linear_width(self, site: str, hidden: int, intermediate: int) -> tuple[int, int]:
        """(in, out) of the linear map at a site."""
        widths = {"ffn_in": (hidden, intermediate), "ffn_out": (intermediate, hidden)}
        return widths.get(site, (hidden, hidden))
