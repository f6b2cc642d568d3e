"""Text classification: labels and scores of a whole input (single label, multi-label, or a regression value)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import HeadSpec
from serving.request import Reduction
from serving.tasks.task import Function, Options, scores
from serving.tasks.tokenization import Encoded


class TextClassification:
    """`[{"label", "score"}]` per input, best first."""

    name = "text-classification"
    problem_types = frozenset({"single_label", "multi_label", "regression"})
    parameters = frozenset({"top_k", "function_to_apply"})
    pairs = True

    def reduction(self, encoded: Encoded) -> Reduction:
        """The head's logits."""
        return Reduction("logits")

    def answer(self, output: NDArray[np.float32], encoded: Encoded, head: HeadSpec | None, options: Options) -> Any:
        """Labels with scores; ties keep the head's order."""
        assert head is not None
        values = scores(output, options.function or default_function(head))
        order = np.arange(len(values)) if options.label_order else np.argsort(-values, kind="stable")
        return [{"label": head.labels[i], "score": float(values[i])} for i in order[: options.top_k]]


def default_function(head: HeadSpec) -> Function:
    """Softmax over labels that exclude one another, sigmoid where each stands alone, nothing for a value."""
    if head.problem_type == "regression":
        return "none"
    if head.problem_type == "multi_label" or len(head.labels) == 1:
        return "sigmoid"
    return "softmax"
