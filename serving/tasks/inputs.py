"""What one input of a request may be: a text or a pair, a question on a context, a text with choices, words; or an image."""

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


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it came: its bytes, or those in base64, with or without the head of a `data:` URL."""

    source: str | bytes

    @property
    def characters(self) -> int:
        """None: what an image may be is bounded in bytes and pixels."""
        return 0


Input = Text | Question | Choices | Words | Image
FORMS = {
    Text: "a text or {text, text_pair}",
    Question: "{question, context}",
    Choices: "{text, choices}",
    Words: "{words}",
    Image: "{image}",
}
