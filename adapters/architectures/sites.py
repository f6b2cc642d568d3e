"""The closed table of sites: every place where a method may act, and the contract of each kind.

What a method implements for each kind: `adapters/methods/base.py`. Every activation is packed: one row per token, `[tokens, width]`; rows of the batch follow one another (`RowLayout`).

| kind           | a method gets                                        | and returns                          |
|----------------|------------------------------------------------------|--------------------------------------|
| `embed_lookup` | x, word vectors of all tokens                         | x', what the embedding module is given |
| `embed_out`    | x, output of the embedding module                    | x'                                   |
| `linear`       | x_in and what stands below it, y = W x_in + b, W     | a change h of y, and y with h applied |
|                | (`words`, `positions`, `distances`, ...: a table of vectors, whose x_in, one-hot, is given as ids) |  |
|                | (`patches`: the convolution of images, whose x_in is not given: its bias alone can be another) |  |
| `fused`        | (nothing: adapters are stored for the whole map)     | (they fold to blocks at its parts)   |
| `attention_kv` | the attention's input                                | keys and values to prepend, and gates |
|                | its queries q                                        | what q finds beside them, to be added to its output |
| `junction`     | f sublayer output, r residual, y = norm(f + r), norm | the block's output, in three stages  |
| `layer_out`    | h, output of a layer                                 | h'                                   |
| `norm`         | x, and the frozen norm; `query_norm` and `key_norm`  | y', in the place of y = norm(x)      |
|                | see each attention head apart, [tokens, heads, width] |                                      |
| `head_in`      | h, last hidden state                                 | h'                                   |
"""

from enum import StrEnum
from typing import NamedTuple


class SiteKind(StrEnum):
    """What is handed over at a site; see the table of this module."""

    EMBED_LOOKUP = "embed_lookup"
    EMBED_OUT = "embed_out"
    LINEAR = "linear"
    FUSED = "fused"
    ATTENTION_KV = "attention_kv"
    JUNCTION = "junction"
    LAYER_OUT = "layer_out"
    NORM = "norm"
    HEAD_IN = "head_in"


class Address(NamedTuple):
    """A site in a layer; `layer` is None for sites outside of the layers (and for what all layers share)."""

    layer: int | None
    site: str

    def __str__(self) -> str:
        return f"{'model' if self.layer is None else self.layer}/{self.site}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`3/ffn_out` or `model/embed_out`; raises `ValueError`."""
        layer, _, site = text.partition("/")
        if site not in SITES:
            raise ValueError(f"{text!r} names no site")
        address = cls(None if layer == "model" else int(layer), site)
        if str(address) != text:  # "03/ffn_out", "+3/ffn_out": two names for one place
            raise ValueError(f"{text!r} is not how a site is written; use {address}")
        return address


# A map that computes several sites at once: its site, and those of its parts in the order of its rows.
FUSED: dict[str, tuple[str, ...]] = {"attn_qkv": ("attn_q", "attn_k", "attn_v")}
# Tables of vectors that are added up in front of the layers.
ADDED_UP = ("words", "decoder_words", "positions", "decoder_positions", "segments")
# Tables of the distances between two tokens, which attention looks up: one for all layers of a stack.
DISTANCES = ("distances", "decoder_distances")
TABLES = (*ADDED_UP, *DISTANCES)
# Sites inside a layer first, then those of the whole model. `cross_...` are those of a decoder's attention to its
# encoder's states; at `decoder_kv` is stored what the prefixes of all of a decoder's layers share.
SITES: dict[str, SiteKind] = {
    "attn_q": SiteKind.LINEAR,
    "attn_k": SiteKind.LINEAR,
    "attn_v": SiteKind.LINEAR,
    "attn_out": SiteKind.LINEAR,
    "attn_qkv": SiteKind.FUSED,
    "ffn_in": SiteKind.LINEAR,
    "ffn_gate": SiteKind.LINEAR,
    "ffn_out": SiteKind.LINEAR,
    "attn_kv": SiteKind.ATTENTION_KV,
    "attn_junction": SiteKind.JUNCTION,
    "ffn_junction": SiteKind.JUNCTION,
    "layer_out": SiteKind.LAYER_OUT,
    "attn_norm": SiteKind.NORM,
    "ffn_norm": SiteKind.NORM,
    "query_norm": SiteKind.NORM,
    "key_norm": SiteKind.NORM,
    "cross_q": SiteKind.LINEAR,
    "cross_k": SiteKind.LINEAR,
    "cross_v": SiteKind.LINEAR,
    "cross_out": SiteKind.LINEAR,
    "cross_kv": SiteKind.ATTENTION_KV,
    "cross_junction": SiteKind.JUNCTION,
    "cross_norm": SiteKind.NORM,
    "decoder_kv": SiteKind.ATTENTION_KV,
    "words": SiteKind.LINEAR,
    "decoder_words": SiteKind.LINEAR,
    "positions": SiteKind.LINEAR,
    "decoder_positions": SiteKind.LINEAR,
    "segments": SiteKind.LINEAR,
    "distances": SiteKind.LINEAR,
    "decoder_distances": SiteKind.LINEAR,
    "distance_norm": SiteKind.NORM,
    "patches": SiteKind.LINEAR,
    "embed_lookup": SiteKind.EMBED_LOOKUP,
    "embed_norm": SiteKind.NORM,
    "embed_out": SiteKind.EMBED_OUT,
    "embed_map": SiteKind.LINEAR,
    "encoder_norm": SiteKind.NORM,
    "decoder_embed_norm": SiteKind.NORM,
    "final_norm": SiteKind.NORM,
    "pooler": SiteKind.LINEAR,
    "head_in": SiteKind.HEAD_IN,
}
