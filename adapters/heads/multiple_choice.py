"""Multiple choice: one score for a question with one of its choices; a row per choice."""

from adapters.heads.linear import LinearHead
from adapters.manifest import HeadSpec


class MultipleChoice(LinearHead):
    """A score [1] of a row. The softmax over the rows of one question is for who reads the scores."""

    def outputs(self, spec: HeadSpec) -> int:
        """Width of the last map: one, however many choices there are."""
        return 1


MULTIPLE_CHOICE = MultipleChoice("multiple_choice", "row", ("choice",))
