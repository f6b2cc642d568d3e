"""Extractive question answering: for every token how well an answer starts there, and how well one ends there."""

from adapters.heads.linear import LinearHead
from adapters.manifest import HeadSpec

LABELS = ("start", "end")


class QuestionAnswering(LinearHead):
    """Scores [tokens, 2] of a row: start, end."""

    def reasons(self, spec: HeadSpec, hidden: int, *, has_pooler: bool) -> list[str]:
        """Everything that keeps the head from running on a backbone."""
        reasons = super().reasons(spec, hidden, has_pooler=has_pooler)
        if len(spec.labels) != len(LABELS):
            reasons.append(f"a question_answering head has two outputs, start and end, not {len(spec.labels)}")
        return reasons


QUESTION_ANSWERING = QuestionAnswering("question_answering", "tokens", ("span",))
