"""The forms that an input may have in JSON, told apart by their members, so that a refusal points to the one meant."""

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, FailFast, Field, Tag, WithJsonSchema

from serving.api.strict import Strict
from serving.tasks.inputs import Choices, Image, Input, Question, Words
from serving.tasks.tokenization import Text

Strings = Annotated[list[str], FailFast()]  # a list of a million wrong ones is one fault, not a million


class Member(Strict):
    """A part of a prediction request: nothing unknown, nothing coerced, never changed."""

    model_config = ConfigDict(strict=True, frozen=True)


class TextInput(Member):
    """A text, and the second text of a pair."""

    text: str
    text_pair: str | None = None


class QuestionInput(Member):
    """A question, and the context in which its answer stands (question answering)."""

    question: str
    context: str


class ChoicesInput(Member):
    """A text and what may follow it (multiple choice)."""

    text: str
    choices: Strings = Field(min_length=1)


class QuestionChoicesInput(Member):
    """A question and what may answer it (multiple choice)."""

    question: str
    choices: Strings = Field(min_length=1)


class WordsInput(Member):
    """A sentence that is cut into words already (dependency parsing)."""

    words: Strings = Field(min_length=1)


_IMAGE: dict[str, Any] = {"type": "string", "contentEncoding": "base64"}


class ImageInput(Member):
    """An image in base64, or as a `data:` URL of it: PNG, JPEG or WebP. No other URL is ever fetched.

    It is turned as its EXIF orientation says; transparency is dropped. GET /v1/limits tells how large it may be.
    """

    image: Annotated[str | bytes, WithJsonSchema(_IMAGE)]  # bytes are those of an upload


_FORMS: dict[type, str] = {
    TextInput: "{text}",
    QuestionInput: "{question}",
    ChoicesInput: "{choices}",
    QuestionChoicesInput: "{question, choices}",
    WordsInput: "{words}",
    ImageInput: "{image}",
}
_SPELT = "a string or an object {text, text_pair}, {question, context}, {text, choices}, {words} or {image}"


# The tags are no names of members: a pointer is made of the steps that are.
def _form(value: object) -> str | None:
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        if "choices" in value:
            return "{question, choices}" if "question" in value else "{choices}"
        if "words" in value:
            return "{words}"
        if "image" in value:
            return "{image}"
        return "{question}" if "question" in value or "context" in value else "{text}"
    return "list" if isinstance(value, list) else _FORMS.get(type(value))


_Object = (
    Annotated[TextInput, Tag("{text}")]
    | Annotated[QuestionInput, Tag("{question}")]
    | Annotated[ChoicesInput, Tag("{choices}")]
    | Annotated[QuestionChoicesInput, Tag("{question, choices}")]
    | Annotated[WordsInput, Tag("{words}")]
    | Annotated[ImageInput, Tag("{image}")]
)
_Item = Annotated[
    Annotated[str, Tag("text")] | _Object,
    Discriminator(_form, custom_error_type="wrong_input", custom_error_message=f"an input is {_SPELT}"),
]
Inputs = Annotated[
    Annotated[str, Tag("text")] | _Object | Annotated[list[_Item], Tag("list")],
    Discriminator(
        _form, custom_error_type="wrong_input", custom_error_message=f"inputs is {_SPELT}, or a list of them"
    ),
]
InputItem = str | TextInput | QuestionInput | ChoicesInput | QuestionChoicesInput | WordsInput | ImageInput


def input_of(item: InputItem) -> Input:
    """An input as the tasks know it."""
    match item:
        case str():
            return Text(item)
        case TextInput():
            return Text(item.text, item.text_pair)
        case QuestionInput():
            return Question(item.question, item.context)
        case WordsInput():
            return Words(tuple(item.words))
        case ImageInput():
            return Image(item.image)
        case ChoicesInput():
            return Choices(item.text, tuple(item.choices))
        case QuestionChoicesInput():
            return Choices(item.question, tuple(item.choices))
