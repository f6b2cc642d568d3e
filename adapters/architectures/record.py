"""What a record of a model family says: dotted paths from the base model to its sites. Data, no torch.

Everything in which families differ is a member here, so that a new family is one record and one line in `families`.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from adapters.architectures.demands import Demand
from adapters.architectures.sites import FUSED, SITES, Address, SiteKind

_NORMS_OF_THE_MODEL = frozenset(("embed_norm", "distance_norm", "encoder_norm", "decoder_embed_norm", "final_norm"))

# Who computes the attention: transformers' attention interface calls ours, or ours takes the module's place.
AttentionKind = Literal["interface", "disentangled"]


@dataclass(frozen=True)
class Fused:
    """A linear site that is one of `count` equal parts of the output of a wider map: rows `index * width ...` of W."""

    path: str
    index: int
    count: int


@dataclass(frozen=True)
class Junction:
    """Where a sublayer's output meets its residual; paths are relative to the layer.

    `sublayer`: the module whose output is f. `residual`: the module whose first input is r. `norm`: the module that
    computes norm(f + r), or the norm that AdapterHub hands to adapters there. `adds`: the module `norm` is where f
    and r meet, and its output is what adapters replace; `False`: the model adds a residual itself, and adapters
    replace the sublayer's output. `removable`: what the model adds is this very r, so that adapters that leave it out
    (`original_ln_after` false) can take it off again; AdapterHub's interface for models that it has no code of its own
    for can not. `last_norm`: every layer's adapters use the norm of the last layer. `swapped`: AdapterHub hands f and r
    to adapters in each other's place.
    """

    sublayer: str
    residual: str
    norm: str | None
    adds: bool = True
    removable: bool = False
    last_norm: bool = False
    swapped: bool = False


@dataclass(frozen=True)
class Spelling:
    """Paths that a family's modules had before transformers renamed them, and have in the keys of saved adapters."""

    layer: str
    linear: Mapping[str, str | Fused]
    attention: str


@dataclass(frozen=True)
class Decoder:
    """The layers of an encoder-decoder's decoder, which attend to the encoder's last states as well.

    Its members are those of `Architecture` for these layers alone, with the cross sites among them. `start`: where the
    tokens come from that a row's decoder begins with, if it is given none: the row's own, moved by one place behind the
    `decoder_start_token_id` of the configuration, or behind the row's last token that is no padding (`last`).
    """

    layer: str
    linear: Mapping[str, str | Fused]
    attention: str
    cross_attention: str
    junctions: Mapping[str, Junction]
    norms: Mapping[str, str]
    hub_bottlenecks: Mapping[str, str]
    start: Literal["configured", "last"] = "configured"


# Which map of the feed-forward AdapterHub's LoRA adapts by which member of its configuration.
FEED_FORWARD: Mapping[str, str] = {"intermediate_lora": "ffn_in", "output_lora": "ffn_out"}


@dataclass(frozen=True)
class Architecture:
    """One family's map of sites. Paths inside a layer are relative to `layer`.

    A layer is a module: where passes run one module several times (ALBERT), adapters have one set for it. The layers of
    an encoder-decoder are numbered through, the encoder's first; `encoder_layers` of a model is 0 where there is no
    decoder, and in the table of families.
    """

    model_type: str
    prefix: str  # what a checkpoint saved from a model with a head puts before every key, without the dot
    layer: str  # holds {layer}, or {group} and {inner}
    embeddings: str | None  # its output is the site `embed_out`; None: word vectors enter the layers as they are
    linear: Mapping[str, str | Fused]  # site -> path in the layer
    attention: str  # the module that computes the attention, see `attention_kind`
    junctions: Mapping[str, Junction]
    pooler: str | None  # path of the pooler's linear map; tanh of its output at the first token is the pooled state
    segment_ids: bool  # whether the family can have them; a model with `type_vocab_size` 0 has none
    positions_after_pad: bool  # RoBERTa: positions count from pad_token_id + 1, over ids that are not the pad id
    hub_class: str  # AdapterHub's class with heads; of a family that it has no code of its own for, the base model's
    hub_bottlenecks: Mapping[str, str]  # junction -> the module of a layer in which AdapterHub holds bottlenecks
    words: str | None  # path of the table of word vectors; None: the family sees images
    # Site -> path of a norm that can be replaced: in the layer, of `embed_norm`, `final_norm` and their like in the model.
    norms: Mapping[str, str] = field(default_factory=dict)
    hub_prefix: str | None = "self_prefix"  # AdapterHub's name of the place of prefixes; None: it has none there
    hub_feed_forward: Mapping[str, str] = field(default_factory=lambda: FEED_FORWARD)  # AdapterHub's member -> site
    attention_kind: AttentionKind = "interface"
    causal: bool = False  # tokens see those before them alone, and rows are classified by their last ones
    images: bool = False  # rows are images, cut into patches, and there is no vocabulary
    former: Spelling | None = None  # None: modules are called what they always were
    turned: bool = False  # checkpoints hold the weights of linear maps as [in, out]
    post_norm: bool = False  # layers are built as BERT's: biased maps of the linear sites, a norm behind each residual
    bare_first: tuple[str, ...] = ()  # norms that the first layer lacks
    addends: Mapping[str, str] = field(default_factory=dict)  # site -> path of what else is added up or looked up
    inner: int = 1  # layers in one group, see `grouped`
    embed_map: str | None = None  # path of the map of narrow word vectors to the width of the layers
    decoder: Decoder | None = None
    encoder_layers: int = 0  # see `split`
    gated_ffn: Mapping[str, str] = field(default_factory=dict)  # site -> what `ffn_in` is called where it has a gate
    gated: bool = False  # whether it has one where a configuration does not say
    scales_tied: bool = False  # heads read states times hidden size ** -0.5 where words and head are tied
    position_offset: int = 0  # entries of their tables in front of the first position's
    positions: tuple[str, ...] = ()  # modules that look positions up, and must be told them (the decoder's last)
    relative_bias: tuple[str, ...] = ()  # modules that make a bias of distances for all layers of a stack (T5)
    max_tokens: int | None = None  # of a row, in families whose positions set no limit
    replicable: bool = True  # a layer is all that the model knows of it, so that it can run at another place as well
    ffn_parts: int = 1  # `ffn_in` computes so many times the intermediate width (2: a gated feed-forward)
    ffn_ratio: int | None = None  # intermediate over hidden size, where a config.json does not say the former
    defaults: Mapping[str, int] = field(default_factory=dict)  # members that a config.json of the family may leave out
    demands: tuple[Demand, ...] = ()
    refuses: Mapping[str, str] = field(default_factory=dict)  # method -> why the family does not take it

    @property
    def hub_pooling(self) -> str:
        """Which state AdapterHub's heads for rows read, of those that read no pooler; see `HeadSpec.pooling`."""
        if self.decoder is not None:
            return "last_eos"
        return "counted_token" if self.causal else "first_token"

    def grouped(self, inner: int, *, narrow: bool = True, absent: Container[str] = ()) -> "Architecture":
        """The record for a model with so many layers in a group, with `narrow` word vectors or not, and without some sites."""
        addends = {site: path for site, path in self.addends.items() if site not in absent}
        norms = {site: path for site, path in self.norms.items() if site not in absent}
        return replace(self, inner=inner, embed_map=self.embed_map if narrow else None, addends=addends, norms=norms)

    def split(self, encoder_layers: int, *, gated: bool) -> "Architecture":
        """The record for an encoder-decoder with so many layers in its encoder, and gated feed-forwards or none."""
        if self.decoder is None:
            return self
        own, decoder = self.linear, self.decoder
        if gated:
            own, decoder = self._gated(own), replace(decoder, linear=self._gated(decoder.linear))
        return replace(self, encoder_layers=encoder_layers, linear=own, decoder=decoder)

    def _gated(self, linear: Mapping[str, str | Fused]) -> dict[str, str | Fused]:
        stem = str(linear["ffn_in"]).rpartition(".")[0]
        return {**linear, **{site: f"{stem}.{name}" for site, name in self.gated_ffn.items()}}

    def stack(self, layer: int | None) -> "Architecture | Decoder":
        """Who says what is in a layer."""
        return self if self.decoder is None or layer is None or layer < self.encoder_layers else self.decoder

    def crossing(self, layers: int) -> range:
        """The layers that attend to an encoder's states, of a model with so many in all."""
        return range(self.encoder_layers, layers) if self.decoder is not None else range(0)

    def in_decoder(self, address: Address) -> bool:
        """Whether what stands at an address is the decoder's tokens: keys and values of cross attention are not."""
        if self.decoder is None or address.site in ("cross_k", "cross_v"):
            return False
        return address.site in ("decoder_words", "decoder_positions", "decoder_embed_norm", "final_norm") or (
            address.layer is not None and address.layer >= self.encoder_layers
        )

    def attention_path(self, address: Address) -> str:
        """Dotted path of the attention module that `attn_kv` or `cross_kv` belongs to."""
        assert address.layer is not None
        inside = self.layer_path(address.layer)
        if self.decoder is not None and address.site == "cross_kv":
            return f"{inside}.{self.decoder.cross_attention}"
        return f"{inside}.{self.stack(address.layer).attention}"

    @property
    def formerly(self) -> "Architecture":
        """The record with the paths of `former`: for the keys of what was saved with them, not for a live model."""
        if self.former is None:
            return self
        return replace(self, layer=self.former.layer, linear=self.former.linear, attention=self.former.attention)

    def layer_path(self, layer: int) -> str:
        """Dotted path of one layer; its output (a tensor, or the first of a tuple) is the site `layer_out`."""
        if self.decoder is not None and layer >= self.encoder_layers:
            return self.decoder.layer.format(layer=layer - self.encoder_layers)
        group, inner = divmod(layer, self.inner)
        return self.layer.format(layer=layer, group=group, inner=inner)

    def linear_path(self, address: Address) -> str:
        """Dotted path of the linear map at an address, the wider one where it is fused; raises `KeyError`."""
        if address.layer is None:
            words = dict.fromkeys(("words", "decoder_words"), self.words)
            path = {"pooler": self.pooler, "embed_map": self.embed_map, **words, **self.addends}[address.site]
            if path is None:
                raise KeyError(str(address))
            return path
        place = self.stack(address.layer).linear[FUSED.get(address.site, (address.site,))[0]]
        return f"{self.layer_path(address.layer)}.{place if isinstance(place, str) else place.path}"

    def fused(self, address: Address) -> tuple[int, int] | None:
        """(index, count) of the part of the map at `linear_path` that is this site; None where it is all of it."""
        place = self.stack(address.layer).linear.get(address.site)
        return (place.index, place.count) if isinstance(place, Fused) else None

    def wholes(self, layers: int) -> Iterator[Address]:
        """Every map that is several sites, in a model of so many layers: adapters may be stored for it as a whole."""
        for site, parts in FUSED.items():
            if all(isinstance(self.linear.get(part), Fused) for part in parts):
                yield from (Address(layer, site) for layer in range(layers))

    def parts(self, address: Address) -> tuple[Address, ...]:
        """The sites of a map: those that it fuses, in the order of its rows, or itself."""
        return tuple(Address(address.layer, site) for site in FUSED.get(address.site, (address.site,)))

    def linear_sites(self, layer: int = 0) -> Mapping[str, tuple[str, ...]]:
        """Path in a layer -> its sites: several, in the order of their parts, where the map is fused."""
        found: dict[str, list[tuple[int, str]]] = {}
        for site, place in self.stack(layer).linear.items():
            path, index = (place, 0) if isinstance(place, str) else (place.path, place.index)
            found.setdefault(path, []).append((index, site))
        return {path: tuple(site for _, site in sorted(parts)) for path, parts in found.items()}

    def has_norm(self, address: Address) -> bool:
        """Whether there is a norm at the address."""
        if address.site not in self.stack(address.layer).norms or (address.layer is None) != (
            address.site in _NORMS_OF_THE_MODEL
        ):
            return False
        return address.layer != 0 or address.site not in self.bare_first

    def own_norm_path(self, address: Address) -> str:
        """Dotted path of the norm that is the site itself; raises `KeyError` where there is none."""
        if not self.has_norm(address):
            raise KeyError(str(address))
        path = self.stack(address.layer).norms[address.site]
        return path if address.layer is None else f"{self.layer_path(address.layer)}.{path}"

    def norm_path(self, address: Address, layers: int) -> str | None:
        """Dotted path of the norm at a junction, in a model of so many layers; None where it has none."""
        junction = self.stack(address.layer).junctions[address.site]
        if junction.norm is None or address.layer is None:
            return None
        return f"{self.layer_path(layers - 1 if junction.last_norm else address.layer)}.{junction.norm}"

    def paths(self, layers: int) -> Iterator[str]:
        """Every module that a model of so many layers must have, the pooler aside."""
        around = (self.embeddings, self.words, *self.positions, *self.relative_bias)
        yield from (path for path in around if path is not None)
        yield from (self.own_norm_path(a) for a in self.addresses(layers) if SITES[a.site] is SiteKind.NORM)
        for layer in range(layers):
            inside, stack = self.layer_path(layer), self.stack(layer)
            yield from (inside, f"{inside}.{stack.attention}")
            yield from (f"{inside}.{path}" for path in self.linear_sites(layer))
            for site, junction in stack.junctions.items():
                yield from (f"{inside}.{path}" for path in (junction.sublayer, junction.residual))
                norm = self.norm_path(Address(layer, site), layers)
                if norm is not None:
                    yield norm

    def addresses(self, layers: int) -> Iterator[Address]:
        """Every address at which an adapter may act in a model of so many layers."""
        for site, kind in SITES.items():
            tables = {"words": self.words is not None, "decoder_words": self.decoder is not None}
            if site in ("embed_out", "embed_lookup", *self.addends) or tables.get(site):
                yield Address(None, site)
            elif kind is SiteKind.NORM:
                places = (None,) if site in _NORMS_OF_THE_MODEL else range(layers)
                yield from (a for layer in places if self.has_norm(a := Address(layer, site)))
            elif site in ("pooler", "embed_map"):
                if (self.pooler if site == "pooler" else self.embed_map) is not None:
                    yield Address(None, site)
            elif kind is SiteKind.ATTENTION_KV:
                yield from self._attentions(site, layers)
            else:
                yield from (Address(layer, site) for layer in range(layers) if self._holds(site, kind, layer))

    def _attentions(self, site: str, layers: int) -> Iterator[Address]:
        if self.hub_prefix is None or (site != "attn_kv" and self.decoder is None):
            return
        yield Address(None, site)
        if site != "decoder_kv":
            yield from (Address(i, site) for i in (range(layers) if site == "attn_kv" else self.crossing(layers)))

    def _holds(self, site: str, kind: SiteKind, layer: int) -> bool:
        stack = self.stack(layer)
        return site in stack.linear or site in stack.junctions or kind is SiteKind.LAYER_OUT

    def unmet(self, config: Mapping[str, Any]) -> list[str]:
        """Every reason for which a model with this `config.json` can not be served by the record."""
        return [reason for demand in self.demands if (reason := demand.unmet(config)) is not None]
