"""Sentence embedding: one vector per input, pooled from the last hidden states where they are."""

from collections.abc import Sequence
from typing import Any

from adapters.manifest import HeadSpec
from serving.request import Reduced, Reduction
from serving.tasks.task import Function, OneText, Options, Piece, Prepared


class SentenceEmbedding(OneText):
    """`[float]` per input: the mean (or first, last, largest) of the input's tokens, special ones included."""

    name = "sentence-embedding"
    heads: frozenset[str] = frozenset()
    parameters = frozenset({"truncate", "pooling", "normalize"})
    functions: frozenset[Function] = frozenset()
    pairs = True

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """One vector; `normalize` makes its length one."""
        return Reduction("hidden_state", pooling=options.pooling, normalize=options.normalize)

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[width]."""
        return (None,)

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """The numbers as they are."""
        return shares[0].output.tolist()
