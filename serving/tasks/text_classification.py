"""Text classification: labels and scores of a whole input (single label, multi-label, or a regression value)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.manifest import HeadSpec
from serving.request import Reduced, Reduction
from serving.tasks.task import ALL, Function, Items, OneText, Options, Piece, Prepared, scores


class TextClassification(OneText):
    """`[{"label", "score"}]` per input, best first."""

    name = "text-classification"
    heads = frozenset({"classification", "multilabel_classification"})
    parameters = frozenset({"truncate", "top_k", "function_to_apply"})
    functions = ALL
    pairs = True

    def items(self, prepared: Prepared, head: HeadSpec | None, options: Options) -> Items:
        """The labels, or the best of them."""
        assert head is not None
        return Items(min(len(head.labels), options.top_k or len(head.labels)), "top_k")

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """The head's logits."""
        return Reduction("logits")

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[labels]."""
        assert head is not None
        return (len(head.labels),)

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """Labels with scores; ties keep the head's order."""
        assert head is not None
        values = scores(shares[0].output, options.function or default_function(head))
        order = np.arange(len(values)) if options.label_order else np.argsort(-values, kind="stable")
        return [{"label": head.labels[i], "score": float(values[i])} for i in order[: options.top_k]]


def default_function(head: HeadSpec) -> Function:
    """Softmax over labels that exclude one another, sigmoid where each stands alone, nothing for a value."""
    if head.problem_type == "regression":
        return "none"
    if head.problem_type == "multi_label" or len(head.labels) == 1:
        return "sigmoid"
    return "softmax"
