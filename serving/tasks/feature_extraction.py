"""Feature extraction: the last hidden states of the composition, one vector per token of the input."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import HeadSpec
from serving.request import Reduction
from serving.tasks.task import Options
from serving.tasks.tokenization import Encoded


class FeatureExtraction:
    """`[[float]]` per input, [tokens, width]: special tokens included, what prompt tuning inserts left out."""

    name = "feature-extraction"
    problem_types: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    pairs = True

    def reduction(self, encoded: Encoded) -> Reduction:
        """All hidden states."""
        return Reduction("hidden_state")

    def answer(self, output: NDArray[np.float32], encoded: Encoded, head: HeadSpec | None, options: Options) -> Any:
        """The numbers as they are."""
        return output.tolist()
