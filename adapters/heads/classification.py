"""Classification, multi-label classification and regression: one score per label from a row's pooled state."""

from adapters.heads.linear import LinearHead
from adapters.manifest import HeadSpec


class Classification(LinearHead):
    """Scores [labels] of a row; regression has one. Softmax, sigmoid or neither is for who reads the scores."""

    def reasons(self, spec: HeadSpec, hidden: int, *, has_pooler: bool) -> list[str]:
        """Everything that keeps the head from running on a backbone."""
        reasons = super().reasons(spec, hidden, has_pooler=has_pooler)
        if spec.problem_type == "regression" and len(spec.labels) != 1:
            reasons.append("a regression head has exactly one label")
        return reasons


CLASSIFICATION = Classification("classification", "row", ("single_label", "regression"))
MULTILABEL = Classification("multilabel_classification", "row", ("multi_label",))
