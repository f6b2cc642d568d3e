"""Token classification: the best label of every token of the text, with the characters that it covers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import HeadSpec
from serving.request import Reduction
from serving.tasks.task import Options, scores
from serving.tasks.tokenization import Encoded


class TokenClassification:
    """`[{"entity", "score", "index", "word", "start", "end"}]` per input, in reading order, one per token."""

    name = "token-classification"
    problem_types = frozenset({"token"})
    parameters = frozenset({"function_to_apply"})
    pairs = False

    def reduction(self, encoded: Encoded) -> Reduction:
        """The logits of the text's own tokens, without the special ones around it."""
        return Reduction("logits", encoded.own_positions)

    def answer(self, output: NDArray[np.float32], encoded: Encoded, head: HeadSpec | None, options: Options) -> Any:
        """`index` counts the row's tokens from 0, special ones included; `start` and `end` count characters."""
        assert head is not None
        values = scores(output, options.function or "softmax")
        words, offsets = encoded.words, encoded.offsets
        return [
            {
                "entity": head.labels[best],
                "score": float(row[best]),
                "index": position,
                "word": words[position],
                "start": offsets[position][0],
                "end": offsets[position][1],
            }
            for position, row, best in zip(encoded.own_positions, values, values.argmax(axis=-1), strict=True)
        ]
