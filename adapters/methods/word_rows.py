"""Trainable tokens: an adapter's own word vectors in the place of some rows of the backbone's table, or of all.

x' = R[i] where the token's id is tokens[i], x elsewhere
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.kernels.ragged import looked_up
from adapters.kernels.upload import upload
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings
from adapters.weights import Block, Folded, Insertion

WORDS = Address(None, "words")
DECODER_WORDS = Address(None, "decoder_words")  # looked up in the same table, by an encoder-decoder's decoder


@dataclass(frozen=True)
class WordRows:
    """The method. The ids are in the configuration, and so in a block's variant: their order is that of the rows."""

    name: str = "word_rows"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`: rows [tokens, width]; one for every token where the configuration names none.

        Of an encoder-decoder's whole tables each stack has its own.
        """
        tokens = _read(config, fitting)
        rows = {
            "rows": (fitting.geometry.vocabulary if tokens is None else len(tokens), fitting.geometry.embedding_size)
        }
        found: Shapes = {}
        for address in _stored(tokens, fitting):
            found |= prefixed(address, rows)
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """The backbone's own word vectors: the adapter starts as the identity."""
        tokens, table = _read(config, fitting), fitting.weight(WORDS).T
        rows = table if tokens is None else table[list(tokens)]
        return {f"{address}/rows": rows.float().clone() for address in _stored(tokens, fitting)}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The rows as they are."""
        tokens = _read(config, fitting)
        held = {address: at(tensors, address)["rows"] for address in _stored(tokens, fitting)}
        return {a: Folded(self.name, tokens, {"rows": held.get(a, held[WORDS])}) for a in _stored(None, fitting)}

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """Never: what stands in the place of a word vector is no change that another adapter could build on."""
        return False

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the adapter's own vectors; anything for tokens that it has none of."""
        return looked_up(operand.params["rows"], _places(x[:, 0], operand)[0], operand.runs)

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: its own vectors, where it has one."""
        own = _places(x[:, 0], operand)[1]
        return h.to(y.dtype) if own is None else torch.where(own[:, None], h.to(y.dtype), y)

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: no kernel."""
        return False


WORD_ROWS = WordRows()


def _stored(tokens: tuple[int, ...] | None, fitting: Fitting) -> tuple[Address, ...]:
    """Where rows are stored: both stacks of an encoder-decoder read the same ones, but whole tables of their own."""
    alone = tokens is not None or fitting.architecture.decoder is None
    return (WORDS,) if alone else (WORDS, DECODER_WORDS)


def _places(ids: Tensor, operand: Operand) -> tuple[Tensor, Tensor | None]:
    """(row of each token id [n], whether it is the token's own [n]; None: all are)."""
    tokens = operand.variant
    if tokens is None:
        return ids, None
    assert isinstance(tokens, tuple)
    order = sorted(range(len(tokens)), key=tokens.__getitem__)
    ascending = upload(torch.tensor([tokens[i] for i in order]), ids.device)
    near = torch.searchsorted(ascending, ids).clamp(max=len(order) - 1)
    return upload(torch.tensor(order), ids.device)[near], ascending[near] == ids


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[int, ...] | None:
    """The ids of the rows; None for the whole table."""
    settings, vocabulary = Settings("word_rows", config, ("tokens",)), fitting.geometry.vocabulary
    tokens = settings.get("tokens")
    if "tokens" not in config:
        settings.wrong("tokens must be said: a list of token ids, or null for all")
    if tokens is None:
        settings.done()
        return None
    if not isinstance(tokens, list | tuple) or not tokens or any(type(token) is not int for token in tokens):
        settings.wrong(f"tokens must be a list of token ids, or null for all, not {tokens!r}")
    elif len(set(tokens)) != len(tokens) or not 0 <= min(tokens) <= max(tokens) < vocabulary:
        settings.wrong(f"tokens must be different ids below {vocabulary}, the size of the backbone's vocabulary")
    settings.done()
    return tuple(tokens)
