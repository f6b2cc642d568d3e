"""What one input of a request may be: a text or a pair, a question on a context, a text with choices, or words."""

from dataclasses import dataclass

from serving.tasks.tokenization import Text


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the text in which its answer stands."""

    question: str
    context: str

    @property
    def characters(self) -> int:
        """Characters of both."""
        return len(self.question) + len(self.context)


@dataclass(frozen=True, slots=True)
class Choices:
    """A text, and what may follow it or answer it."""

    text: str
    choices: tuple[str, ...]

    @property
    def characters(self) -> int:
        """Characters of all rows: the text stands in each of them."""
        return len(self.text) * len(self.choices) + sum(len(choice) for choice in self.choices)


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence that is cut into words already."""

    words: tuple[str, ...]

    @property
    def characters(self) -> int:
        """Characters of all words."""
        return sum(len(word) for word in self.words)


Input = Text | Question | Choices | Words
FORMS = {
    Text: "a text or {text, text_pair}",
    Question: "{question, context}",
    Choices: "{text, choices}",
    Words: "{words}",
}
