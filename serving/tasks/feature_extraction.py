"""Feature extraction: the last hidden states of the composition, one vector per token of the input."""

from collections.abc import Sequence
from typing import Any

from adapters.manifest import HeadSpec
from serving.request import Reduced, Reduction
from serving.tasks.task import Function, OneText, Options, Piece, Prepared


class FeatureExtraction(OneText):
    """`[[float]]` per input, [tokens, width]: special tokens included, what prompt tuning inserts left out.

    An encoder-decoder's are those of its decoder, which reads the input moved by one place, as transformers' model does.
    """

    name = "feature-extraction"
    heads: frozenset[str] = frozenset()
    parameters = frozenset({"truncate"})
    functions: frozenset[Function] = frozenset()
    pairs = True

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """All hidden states."""
        return Reduction("hidden_state")

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[tokens, width]."""
        return (piece.row.tokens, None)

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """The numbers as they are."""
        return shares[0].output.tolist()
