"""The geometry of a backbone: the sizes that a package must fit, out of a model's `config.json`; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from adapters.architectures.families import architecture_of
from adapters.architectures.record import Architecture
from adapters.architectures.sites import DISTANCES, FUSED, TABLES
from adapters.errors import UnknownArchitecture

_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation", "activation_function")


@dataclass(frozen=True)
class Geometry:
    """The sizes that a package must fit. Widths are in units of one activation.

    `embedding_size` is the width of word vectors and of the site `embed_out`; some families widen them afterwards.
    `layers` counts modules: ALBERT runs each of its few several times in a pass. Several heads of queries may share
    keys and values; a head may be wider or narrower than its share of the hidden size.
    """

    model_type: str
    hidden_size: int
    embedding_size: int
    intermediate_size: int
    layers: int
    heads: int
    vocabulary: int
    max_tokens: int  # longest row, special tokens included
    type_vocabulary: int  # 0 where the family has no segment ids
    pad_token_id: int  # -1 where no token is one
    inner_layers: int = 1  # layers in one group of layers, see `Architecture.grouped`
    relative_positions: int = 0  # entries of the table of distances that attention looks up
    relative_maps: bool = False  # whether the maps of queries and keys are applied to that table as well
    relative_norm: bool = False  # whether there is a norm behind it
    placed: bool = True  # whether a family that can have a table of positions has one
    norm_eps: float = 1e-12  # of the family's layer norms; heads over the vocabulary hold one of their own
    activation: str = "gelu"  # of the feed-forward sublayers, and of some of those heads
    key_heads: int | None = None  # heads of keys and values; None: as many as of queries
    head_size: int | None = None  # None: the hidden size over the heads
    channels: int = 0  # of the images that rows are; 0 where rows are text
    image_height: int = 0  # in pixels
    image_width: int = 0
    encoder_layers: int = 0  # the first of the layers, in an encoder-decoder; 0 where there is no decoder
    gated: bool = False  # whether the feed-forwards of a family that can have a gate have one
    decoder_start: int = 0  # the token that a decoder begins with
    eos_token_id: int = -1  # of an encoder-decoder: the token whose state stands for a row
    tied: bool = False  # transformers' heads over the vocabulary read the table of words
    averaged: bool = False  # transformers' heads for rows read the mean of their states, not the first token's
    head_scale: float | None = None  # what the states are multiplied by before some of the family's heads

    @property
    def architecture(self) -> Architecture:
        """The family's record, as it holds for this model."""
        return _record(self)

    def along(self, route: tuple[int, ...] | None) -> "Geometry":
        """What an adapter fits that has so many layers as its route has places (see `Manifest.route`)."""
        return self if route is None else replace(self, layers=len(route))

    @property
    def image(self) -> tuple[int, int, int] | None:
        """[channels, height, width] of the image that a row is; None where rows are text."""
        return (self.channels, self.image_height, self.image_width) if self.channels else None

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.head_size or self.hidden_size // self.heads

    @property
    def key_width(self) -> int:
        """Width of a token's keys, and of its values."""
        return (self.key_heads or self.heads) * self.head_width

    def rows(self, table: str) -> int:
        """Entries of one of `TABLES`; 0 where the model has none."""
        family = architecture_of(self.model_type)
        before = self.pad_token_id + 1 if family.positions_after_pad else family.position_offset
        return {
            "words": self.vocabulary,
            "decoder_words": self.vocabulary if self.encoder_layers else 0,
            "positions": self.max_tokens + before if self.placed else 0,
            "decoder_positions": self.max_tokens + before if self.encoder_layers else 0,
            "segments": self.type_vocabulary,
            "distances": self.relative_positions,
            "decoder_distances": self.relative_positions if self.encoder_layers else 0,
        }[table]

    def table_width(self, table: str) -> int:
        """Width of the entries of one of `TABLES`: T5 has a number for every head of a distance, DeBERTa a vector."""
        if table not in DISTANCES:
            return self.embedding_size
        return self.heads if self.encoder_layers else self.hidden_size

    @property
    def numbered(self) -> int | None:
        """How many layers a configuration may name; None where modules run several times, and layers are passes too."""
        return None if "{group}" in architecture_of(self.model_type).layer else self.layers

    @property
    def crossing(self) -> range:
        """The layers that attend to an encoder's states."""
        return range(self.encoder_layers, self.layers) if self.encoder_layers else range(0)

    @property
    def feed_forward(self) -> Mapping[str, str]:
        """Site by member of AdapterHub's LoRA configurations."""
        return architecture_of(self.model_type).hub_feed_forward

    def linear_width(self, site: str) -> tuple[int, int]:
        """(in, out) of the linear map at a site, its own part where it is fused, or all of a map of several sites."""
        if site in FUSED:
            parts = [self.linear_width(part) for part in FUSED[site]]
            return parts[0][0], sum(out for _, out in parts)
        hidden, queries = self.hidden_size, self.heads * self.head_width
        widths = {
            "attn_q": (hidden, queries),
            "attn_k": (hidden, self.key_width),
            "attn_v": (hidden, self.key_width),
            "attn_out": (queries, hidden),
            "cross_q": (hidden, queries),
            "cross_k": (hidden, self.key_width),
            "cross_v": (hidden, self.key_width),
            "cross_out": (queries, hidden),
            "ffn_in": (hidden, architecture_of(self.model_type).ffn_parts * self.intermediate_size),
            "ffn_gate": (hidden, self.intermediate_size),
            "ffn_out": (self.intermediate_size, hidden),
            "embed_map": (self.embedding_size, hidden),
        }
        return widths.get(site, (hidden, hidden))


@cache
def _record(geometry: Geometry) -> Architecture:
    family = architecture_of(geometry.model_type)
    if family.decoder is not None:
        return family.split(geometry.encoder_layers, gated=geometry.gated)
    absent = {table for table in TABLES if not geometry.rows(table)}
    if not geometry.relative_norm:
        absent.add("distance_norm")
    narrow = geometry.embedding_size != geometry.hidden_size
    return family.grouped(geometry.inner_layers, narrow=narrow, absent=absent)


def read_geometry(config: Mapping[str, Any]) -> Geometry:
    """Geometry of a `config.json`; raises `UnknownArchitecture` for one that its family's record does not hold for.

    Members that the file leaves out are the family's defaults; DistilBERT spells its sizes differently from the others.
    """
    family = architecture_of(str(config.get("model_type", "")))
    unmet = family.unmet(config)
    if unmet:
        raise UnknownArchitecture(f"this {family.model_type} model can not be served: {'; '.join(unmet)}")

    def pick(*names: str, default: int | None = None) -> int:
        for name in names:
            for held in (config, family.defaults):
                if isinstance(held.get(name), int):
                    return int(held[name])
        if default is None:
            raise UnknownArchitecture(f"config.json has none of {', '.join(names)}")
        return default

    def own(name: str) -> int | None:
        """A member that is as usual where it is null, and may be something else where it is absent."""
        value = config.get(name, family.defaults.get(name))
        return value if isinstance(value, int) else None

    hidden = pick("hidden_size", "dim", "n_embd", "d_model")
    pad = pick("pad_token_id", default=0)
    image = _image(config, family)
    positions = image.tokens if image else family.max_tokens or pick("max_position_embeddings", "n_positions")
    inner = pick("inner_group_num", default=1)
    encoder = pick("encoder_layers", "num_layers") if family.decoder is not None else 0
    decoder = pick("num_decoder_layers", "decoder_layers", default=encoder) if encoder else 0
    return Geometry(
        model_type=family.model_type,
        hidden_size=hidden,
        embedding_size=pick("embedding_size", default=hidden),
        intermediate_size=pick(
            "intermediate_size",
            "hidden_dim",
            "n_inner",
            "d_ff",
            "encoder_ffn_dim",
            default=family.ffn_ratio and family.ffn_ratio * hidden,
        ),
        layers=encoder + (decoder or pick("num_hidden_groups", "num_hidden_layers", "n_layers", "n_layer") * inner),
        heads=pick("num_attention_heads", "n_heads", "n_head", "num_heads", "encoder_attention_heads"),
        vocabulary=0 if image else pick("vocab_size"),
        max_tokens=positions - (pad + 1 if family.positions_after_pad else 0),
        type_vocabulary=pick("type_vocab_size", default=0) if family.segment_ids else 0,
        pad_token_id=pad,
        inner_layers=inner,
        **_relative(config, family, positions),
        norm_eps=float(config.get("layer_norm_eps") or family.defaults.get("layer_norm_eps") or 1e-12),
        activation=str(next((config[name] for name in _ACTIVATIONS if config.get(name)), "gelu")),
        key_heads=own("num_key_value_heads"),
        head_size=own("head_dim") or own("d_kv"),
        channels=image.channels if image else 0,
        image_height=image.height if image else 0,
        image_width=image.width if image else 0,
        **_stacks(config, family, encoder, hidden),
    )


def _stacks(config: Mapping[str, Any], family: Architecture, encoder: int, hidden: int) -> dict[str, Any]:
    """What heads share with the words, and what an encoder-decoder has beside the others, or how their heads pool."""
    tied = config.get("tie_word_embeddings", family.defaults.get("tie_word_embeddings", not family.causal))
    if family.decoder is None:
        averaged = config.get("classifier_pooling") == "mean"
        return {"averaged": averaged, "tied": bool(tied) and family.words is not None}
    said = {**family.defaults, **{key: value for key, value in config.items() if value is not None}}
    shape = str(config.get("feed_forward_proj") or ("gated" if family.gated else ""))
    return {
        "tied": bool(tied),
        "encoder_layers": encoder,
        "gated": shape.startswith("gated"),
        "decoder_start": int(said["decoder_start_token_id"]),
        "eos_token_id": int(said["eos_token_id"]),
        "head_scale": hidden**-0.5 if family.scales_tied and said["tie_word_embeddings"] else None,
    }


def _relative(config: Mapping[str, Any], family: Architecture, positions: int) -> dict[str, Any]:
    """What a model has of distances and places; DeBERTa may leave out any of it."""
    if family.relative_bias:
        return {"relative_positions": int(config.get("relative_attention_num_buckets") or 32)}
    if family.attention_kind != "disentangled":
        return {}
    norms = [norm.strip() for norm in str(config.get("norm_rel_ebd", "none")).lower().split("|")]
    spans = (config.get("position_buckets", -1), config.get("max_relative_positions", -1), positions)
    looked_up = bool(config.get("relative_attention") and config.get("pos_att_type"))
    return {
        "placed": bool(config.get("position_biased_input", True)),
        "relative_positions": 2 * next(span for span in spans if span > 0) if looked_up else 0,
        "relative_maps": bool(config.get("share_att_key")),
        "relative_norm": "layer_norm" in norms,
    }


@dataclass(frozen=True)
class _Image:
    channels: int
    height: int
    width: int
    tokens: int  # one per patch, and the class token


def _image(config: Mapping[str, Any], family: Architecture) -> _Image | None:
    """Sizes of the images that a family's models see; each is a number, or [height, width]."""
    if not family.images:
        return None

    def pair(name: str) -> tuple[int, int]:
        value = config.get(name, family.defaults[name])
        height, width = value if isinstance(value, list) and len(value) == 2 else (value, value)
        if not all(isinstance(size, int) and size > 0 for size in (height, width)):
            raise UnknownArchitecture(f"{name} is {value!r}: give a number of pixels, or [height, width]")
        return height, width

    (height, width), (tall, wide) = pair("image_size"), pair("patch_size")
    channels = config.get("num_channels", family.defaults["num_channels"])
    if not isinstance(channels, int) or channels < 1:
        raise UnknownArchitecture(f"num_channels is {channels!r}: give a number above 0")
    return _Image(channels, height, width, (height // tall) * (width // wide) + 1)
